// Small models and parameters for tests: how they are made, changed and compared.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/sequence_model.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "context.h"

namespace fprnn::tests {

struct Root : Module {};

inline Tensor random(const Context& context, const Shape& shape, uint64_t stream,
                     real bound = real(1)) {
  Rng rng{1234, stream};
  return uniform(context, shape, -bound, bound, rng);
}

// Moves every parameter away from its initial value, so that none is zero, one or the same in each
// row.
inline void scramble(Module& module) {
  uint64_t stream = 1000;
  for (const auto& [path, parameter] : module.parameters())
    parameter->value =
        random(parameter->value.context(), parameter->value.shape(), stream++, real(0.7));
}

// Other numbers in the same place, where a graph of a GPU would find them too.
inline void assign(const Tensor& to, const std::vector<real>& values) {
  copy(Tensor(to.context(), to.shape(), values), to);
}
// Puts a number there and returns what stood there.
inline real exchange_element(const Tensor& tensor, int64_t at, real value) {
  std::vector<real> values = tensor.to_vector();
  const real before = std::exchange(values[at], value);
  assign(tensor, values);
  return before;
}

inline std::vector<std::vector<real>> values_of(Module& module) {
  std::vector<std::vector<real>> values;
  for (const auto& [path, parameter] : module.parameters())
    values.push_back(parameter->value.to_vector());
  return values;
}

inline std::unique_ptr<SequenceModel> mamba_model(const Context& context, Rng rng,
                                                  int64_t vocabulary, int64_t layers,
                                                  const MambaOptions& layer) {
  const auto make_layer = [layer](Module& parent, std::string name, const Init& init) {
    return std::make_unique<Mamba>(parent, std::move(name), init, layer);
  };
  return std::make_unique<SequenceModel>(Init{context, rng},
                                         SequenceModelOptions{.vocabulary = vocabulary,
                                                              .d_model = layer.d_model,
                                                              .layers = layers,
                                                              .make_layer = make_layer});
}

}  // namespace fprnn::tests
