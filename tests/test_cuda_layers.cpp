// Whole fixed-point layers on the GPU: what the CPU finds.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/selective_scan.h>

#include <algorithm>
#include <cmath>

#include "close.h"
#include "fp_cases.h"
#include "needs.h"
#include "run_case.h"
#include "twins.h"
#include "wide_cases.h"

namespace fprnn::tests {

namespace {

// What a layer gives: loss, output, solution, state; then the gradients of u and the parameters. Those of the
// steps from `first` on, where the others leave their state.
struct Found {
  Values values, gradients;

  explicit Found(Built& built, int64_t first = 0) {
    Tape tape(built.context);
    std::vector<Var> asked{tape.variable(built.u)};
    FixedPointState state;
    if (first > 0) built.layer->forward(slice(built.u, 1, 0, first), state);
    const Var y = built.layer->forward(slice(asked[0], 1, first, built.u.size(1)), state, built.on);
    const Tensor seed = random(host_context(), y.shape(), 2).on(built.context);
    const Var loss = sum(mul(y, seed));
    values = {loss.value().to_vector(), y.value().to_vector(), built.layer->solution().to_vector(),
              state.y.to_vector(), state.carry.to_vector()};
    for (const auto& [path, parameter] : built.layer->parameters())
      asked.push_back(tape.leaf(*parameter));
    const Tensor one = full(built.context, {}, 1);
    for (const Tensor& gradient : tape.vjp({loss}, {one}, asked))
      gradients.push_back(gradient.to_vector());
  }
};

// The loss is a sum in which much cancels, so its error is that of its terms.
void check_twins(Twins& twins, const std::string& name, int64_t first = 0) {
  const Found here(twins.here, first), there(twins.there, first);
  CHECK(std::abs(there.values[0][0] - here.values[0][0]) <= kSame * length(here.values[1]));
  for (size_t i = 1; i < here.values.size(); ++i)
    check_close(fmt::format("{}, value {}", name, i), there.values[i], here.values[i], kSame);
  REQUIRE(there.gradients.size() == here.gradients.size());
  for (size_t i = 0; i < here.gradients.size(); ++i)
    check_close(fmt::format("{}, gradient {}", name, i), there.gradients[i], here.gradients[i],
                kSameGradient);
}

constexpr const char* kGradients[] = {"one-step", "neumann:3", "exact"};

// Each solver with each gradient.
void check_all_ways(Twins& twins, const std::string& name) {
  for (const Solver solver : {Solver::sequential, Solver::parallel, Solver::patience})
    for (const char* gradient : kGradients) {
      twins.both([&](Built& built) {
        built.set(solver);
        built.layer->solver.gradient.kind = gradient_named(gradient).kind;
        built.layer->solver.gradient.terms = gradient_named(gradient).terms;
        built.layer->solver.patience = {.threshold = 10 * kSolveTolerance, .quantile = 1};
      });
      check_twins(twins, fmt::format("{}, {}, {}", name, name_of(solver), gradient));
    }
}

}  // namespace

TEST_CASE("cuda: fixed-point layers give what the CPU gives with every solver and gradient" *
          needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  std::vector<Case> cases = all_cases();
  if (small_only()) std::erase_if(cases, [](const Case& entry) { return !entry.plain; });
  for (const Case& entry : cases) {
    Twins twins(cpu, gpu, entry, {kBatch, kTime, kWidth});
    check_all_ways(twins, entry.name);
  }
}

// Up to the widths at which a GPU's kernels change; a prime number of steps and of sequences.
TEST_CASE("cuda: wide fixed-point layers give what the CPU gives" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  const Width widths[] = {{12, 5, MixerKind::householder, 1},  {32, 16, MixerKind::householder, 1},
                          {64, 16, MixerKind::householder, 2}, {48, 16, MixerKind::householder, 3},
                          {32, 16, MixerKind::householder, 6}, {64, 32, MixerKind::dplr, 4},
                          {36, 16, MixerKind::kronecker, 1},   {64, 16, MixerKind::kronecker, 1},
                          {128, 16, MixerKind::kronecker, 1},  {256, 16, MixerKind::householder, 2},
                          {512, 16, MixerKind::kronecker, 1}};
  for (const Width& of : widths) {
    if (small_only() && of.width > 32 && of.width != 128) continue;
    for (const Case& entry : {wide_mamba(of), wide_rnn(of), wide_mamba2(of), wide_delta(of)}) {
      Twins twins(cpu, gpu, entry, {5, small_only() ? 3 : 17, of.width});
      // racecheck takes it for a race if a warp that reads has waited less often than the one that
      // wrote, whatever for; of equal sequences all wait as often.
      if (small_only()) twins.repeat_first_sequence();
      for (const char* gradient : kGradients) {
        twins.both([&](Built& built) {
          built.set(Solver::sequential);
          built.layer->solver.gradient.kind = gradient_named(gradient).kind;
        });
        check_twins(twins, fmt::format("{}, {}", entry.name, gradient));
      }
    }
  }
}

// What a sweep keeps for the gradients: states before two further chunks of the scan, what came before the first
// step, and the scan's own numbers without the gate.
TEST_CASE("cuda: gradients through several chunks of the scan are the CPU's" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  constexpr int64_t kFirst = 3, kSteps = kFirst + 2 * kSelectiveScanChunk + 5;
  for (const Width& of : {Width{64, 16, MixerKind::householder, 2},
                          {256, 16, MixerKind::householder, 2},
                          {128, 16, MixerKind::kronecker, 1}})
    for (const Case& entry :
         {wide_mamba(of), wide_mamba(of, true), wide_mamba2(of), wide_delta(of)}) {
      Twins twins(cpu, gpu, entry, {3, kSteps, of.width});
      twins.both([](Built& built) { built.set(Solver::sequential); });
      check_twins(twins, entry.name, kFirst);
    }
}

// The products y W^T in 16 bits, those that stay in floats and those of a step of its own; in one piece and in
// two. Residuals below the precision of tf32, of solutions and of their exact gradients, show that
// f is the solver's own map: where they miss their tolerance it is thrown.
TEST_CASE("cuda: layers with products in tf32 are solved by their own map" * needs_gpu() *
          needs_float()) {
  ContextOptions options = test_options();
  options.matmul_precision = MatmulPrecision::tf32;
  const Context cpu = host_context(), gpu = device_context(options);
  constexpr double kNear = 1e-2;          // ten roundings of tf32
  constexpr double kNearGradient = 5e-2;  // which go through the inverse of I - J once more
  const int64_t kSteps = small_only() ? 3 : 17, kFirst = small_only() ? 1 : 6;
  for (const Width& of : {Width{32, 16, MixerKind::householder, 1},
                          {128, 16, MixerKind::householder, 4},
                          {48, 16, MixerKind::householder, 2},
                          {256, 16, MixerKind::householder, 2},
                          {128, 16, MixerKind::kronecker, 1}}) {
    if (small_only() && of.mixer != MixerKind::householder) continue;
    for (const Case& entry : {wide_mamba(of), wide_mamba2(of), wide_delta(of)}) {
      INFO(entry.name);
      Twins twins(cpu, gpu, entry, {5, kSteps, of.width});
      if (small_only()) twins.repeat_first_sequence();
      twins.both([&](Built& built) {
        built.set(Solver::sequential);
        built.layer->solver.tolerance = real(1e-5);
        built.layer->solver.unconverged = Unconverged::fail;
      });
      const Found here(twins.here), there(twins.there);
      for (size_t i = 1; i < here.values.size(); ++i)
        check_close(fmt::format("{}, value {}", entry.name, i), there.values[i], here.values[i],
                    kNear);
      REQUIRE(there.gradients.size() == here.gradients.size());
      for (size_t i = 0; i < here.gradients.size(); ++i)
        check_close(fmt::format("{}, gradient {}", entry.name, i), there.gradients[i],
                    here.gradients[i], kNearGradient);
      FixedPointState state;
      for (const int64_t begin : {int64_t{0}, kFirst}) {
        const int64_t end = begin == 0 ? kFirst : kSteps;
        twins.there.layer->forward(slice(twins.there.u, 1, begin, end), state);
      }
    }
  }
}

TEST_CASE("cuda: layers with dropped states and in chunks give what the CPU gives" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  for (const Case& entry : mamba_cases()) {
    Twins twins(cpu, gpu, entry, {kBatch, kTime, kWidth});
    const auto in_chunks = [](Built& built) {
      FixedPointState state;
      Values values;
      for (const auto& [begin, end] : {std::pair{0, 3}, {3, 4}, {4, 4}, {4, int(kTime)}})
        values.push_back(
            built.layer->forward(slice(built.u, 1, begin, end), state).value().to_vector());
      return values;
    };
    const Values here = in_chunks(twins.here), there = in_chunks(twins.there);
    for (size_t i = 0; i < here.size(); ++i)
      check_close(fmt::format("{}, chunk {}", entry.name, i), there[i], here[i], kSame);
    twins.both([](Built& built) {
      built.on.state_mask = Tensor(built.context, built.u.shape().without(-1));
      draw_state_mask(0.5, {.seed = 7, .stream = 0}, built.on.state_mask);
    });
    check_twins(twins, entry.name + ", dropped");
  }
}

}  // namespace fprnn::tests
