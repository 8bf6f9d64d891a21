#include "run_case.h"

#include <fprnn/core/rng.h>

#include <algorithm>
#include <cstring>

#include "close.h"
#include "context.h"

namespace fprnn::tests {

namespace {

constexpr uint64_t kSeed = 20240229;

// In [0, 1), with all the bits of a double: with fewer, sums would be exact in any order.
double fraction(const Rng& rng, uint64_t i) {
  return (rng.bits(2 * i) + rng.bits(2 * i + 1) * 0x1p-32) * 0x1p-32;
}

std::vector<real> draw(int64_t count, double low, double high, uint64_t stream) {
  const Rng rng{kSeed, stream};
  std::vector<real> values(count);
  for (int64_t i = 0; i < count; ++i)
    values[i] = static_cast<real>(low + (high - low) * fraction(rng, i));
  return values;
}

}  // namespace

Values draw_inputs(const OpCase& entry) {
  Values values;
  for (const Input& input : entry.inputs)
    values.push_back(draw(input.shape.elements(), input.low, input.high, values.size()));
  return values;
}

Result run_case(const Context& context, const OpCase& entry, const Values& inputs, Values seeds) {
  Tape tape(context);
  Vars vars, asked;
  std::vector<Tensor> tensors, seed_tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    tensors.emplace_back(context, entry.inputs[i].shape, inputs[i]);
    if (entry.inputs[i].differentiable) asked.push_back(tape.variable(tensors[i]));
    vars.push_back(entry.inputs[i].differentiable ? asked.back() : Var(tensors[i]));
  }
  const Vars outputs = entry.apply(vars);
  Result result;
  const bool draw_seeds = seeds.empty();
  for (const Var& output : outputs) {
    if (draw_seeds) seeds.push_back(draw(output.elements(), -1, 1, 100 + seeds.size()));
    seed_tensors.emplace_back(context, output.shape(), seeds[seed_tensors.size()]);
    result.shapes.push_back(output.shape());
    result.outputs.push_back(output.value().to_vector());
  }
  // An output that depends on nothing that is asked about may have no history.
  Vars walked;
  std::vector<Tensor> walked_seeds;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].tape() == nullptr) continue;
    walked.push_back(outputs[i]);
    walked_seeds.push_back(seed_tensors[i]);
  }
  for (const Tensor& gradient : tape.vjp(walked, walked_seeds, asked))
    result.gradients.push_back(gradient.to_vector());
  result.unchanged = true;
  for (size_t i = 0; i < inputs.size(); ++i)
    result.unchanged &= same_bits(tensors[i].to_vector(), inputs[i]);
  for (size_t i = 0; i < outputs.size(); ++i)
    result.unchanged &= same_bits(seed_tensors[i].to_vector(), seeds[i]) &&
                        same_bits(outputs[i].value().to_vector(), result.outputs[i]);
  result.seeds = std::move(seeds);
  return result;
}

Arrays arrays_of(const OpCase& entry, const Values& inputs) {
  Arrays arrays;
  for (size_t i = 0; i < inputs.size(); ++i)
    arrays.emplace_back(entry.inputs[i].shape,
                        std::vector<double>(inputs[i].begin(), inputs[i].end()));
  return arrays;
}

bool same_bits(const std::vector<real>& x, const std::vector<real>& y) {
  return x.size() == y.size() &&
         (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(real)) == 0);
}

bool same_bits(const Values& x, const Values& y) {
  return std::ranges::equal(x, y, [](const auto& a, const auto& b) { return same_bits(a, b); });
}

void check_same_alone(const std::string& name, const std::vector<real>& alone,
                      const std::vector<real>& together, double tolerance) {
  if (on_gpu()) return check_close(name, alone, together, tolerance);
  CHECK_MESSAGE(same_bits(alone, together), name);
}

}  // namespace fprnn::tests
