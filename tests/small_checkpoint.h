// A tiny model with its optimiser, for tests that save and load it many times.
#pragma once

#include <fprnn/models/checkpoint.h>

#include <cstring>

#include "folder.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

struct SmallModel : Module {
  explicit SmallModel(const Context& context, uint64_t stream = 1) {
    add_parameter("weight", random(context, {2, 3}, stream));
    add_parameter("scale", random(context, {}, stream + 1), Decay::no);
  }
};

// Everything that a checkpoint restores, as it is now.
struct Live {
  Values values;
  Values moments = {};
  int64_t steps = 0;

  Live(Module& model, const AdamW& optimiser)
      : values(values_of(model)), steps(optimiser.state().steps) {
    for (const auto& [path, mean, variance] : optimiser.state().moments) {
      moments.push_back(mean.to_vector());
      moments.push_back(variance.to_vector());
    }
  }
  bool operator==(const Live& other) const {
    return same_bits(values, other.values) && same_bits(moments, other.moments) &&
           steps == other.steps;
  }
};

struct Small {
  Context context;
  SmallModel model;
  AdamW optimiser;

  explicit Small(uint64_t stream = 1, const Context& context = context_with(1))
      : context(context), model(context, stream), optimiser(model.parameters(), {}) {}
  void step(uint64_t number) {
    for (const auto& [path, parameter] : model.parameters())
      parameter->gradient = random(context, parameter->value.shape(), 100 + 10 * number);
    optimiser.step(0.1);
  }
  Live live() { return {model, optimiser}; }
};

inline CheckpointState some_state(int64_t step = 3) {
  return {.step = step,
          .seed = ~uint64_t{0},
          .stream = (uint64_t{1} << 63) + 1,
          .cursor = int64_t{1} << 53,
          .skipped = 2,
          .seconds = 0.1,
          .real = kDouble ? "double" : "float",
          .configuration = {{"lr", "0.001"}, {"größe", "\"1\"\n"}, {"", ""}}};
}

}  // namespace fprnn::tests
