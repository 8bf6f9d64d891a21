// Every op of the table that has a batch, with more sequences than one axis of a GPU's grid has blocks.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "close.h"
#include "context.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

// The whole of it with LARGE=1.
int64_t sequences() { return environment("LARGE", "").empty() ? 700 : 70'000; }

bool empty(const OpCase& entry) {
  return std::ranges::any_of(entry.inputs, [](const Input& x) { return x.shape.elements() == 0; });
}

// Of each op that has a batch a small row of the table: of some elements, then with most inputs. Larger ones
// would fill the memory.
std::vector<OpCase> batched_ops() {
  constexpr int64_t kSome = 50, kMany = 500;
  std::map<std::string, OpCase> chosen;
  const auto rank = [](const OpCase& of) {
    return std::tuple(elements_of(of) < kSome, -std::ssize(of.inputs), elements_of(of));
  };
  for (const OpCase& entry : op_table().cases) {
    if (empty(entry) || elements_of(entry) > kMany || !entry.inputs[0].batched) continue;
    const auto [at, is_new] = chosen.try_emplace(entry.op, entry);
    if (!is_new && rank(entry) < rank(at->second)) at->second = entry;
  }
  std::vector<OpCase> ops;
  for (const auto& [op, entry] : chosen) ops.push_back(entry);
  return ops;
}

// A sum of thousands of equal terms, each of which rounds to the same side.
constexpr double kEqualTerms = tolerance(1e-9, 5e-3);

}  // namespace

// Sequences do not meet: repeated, they give what they gave, and weights the sum of their gradients.
TEST_CASE("extents: every op of the table that has a batch, with 70,000 sequences") {
  const Context context = test_context();
  for (const OpCase& entry : batched_ops()) {
    CAPTURE(name_of(entry));
    const int64_t few = entry.inputs[0].shape[0], times = sequences() / few;
    const auto repeated = [&](const Values& values, size_t i) {
      std::vector<real> all;
      for (int64_t k = 0; k < times; ++k) all.insert(all.end(), values[i].begin(), values[i].end());
      return all;
    };
    const Values inputs = draw_inputs(entry);
    const Result alone = run_case(context, entry, inputs);
    OpCase many = entry;
    Values many_inputs = inputs, many_seeds = alone.seeds;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!entry.inputs[i].batched) continue;
      many.inputs[i].shape = entry.inputs[i].shape.with(0, few * times);
      many_inputs[i] = repeated(inputs, i);
    }
    for (size_t i = 0; i < many_seeds.size(); ++i) many_seeds[i] = repeated(alone.seeds, i);
    const Result result = run_case(context, many, many_inputs, many_seeds);
    for (size_t i = 0; i < alone.outputs.size(); ++i)
      check_close(fmt::format("output {}", i), result.outputs[i], repeated(alone.outputs, i),
                  entry.forward_tolerance);
    size_t asked = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!entry.inputs[i].differentiable) continue;
      const bool batched = entry.inputs[i].batched;
      std::vector<real> expected =
          batched ? repeated(alone.gradients, asked) : alone.gradients[asked];
      if (!batched)
        for (real& x : expected) x *= static_cast<real>(times);
      check_close(fmt::format("gradient of input {}", i), result.gradients[asked++], expected,
                  batched ? entry.gradient_tolerance : kEqualTerms, entry.gradient_floor);
    }
  }
}

}  // namespace fprnn::tests
