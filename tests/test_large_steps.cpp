// Numbers that leave no room for a careless sum, as in test_large_numbers.cpp, in a fixed-point layer's step: its
// local equation where LayerNorm's row is constant, and directions of any length.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/kronecker_solve.h>

#include "close.h"
#include "context.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr real kTolerance = kDouble ? real(1e-12) : real(1e-6);
constexpr double kClose = tolerance(1e-12, 2e-5);

struct ConstantRow {
  int64_t D;
  real value;
};
const ConstantRow kConstantRows[] = {{3, real(1000.1)},   {7, real(50000.7)}, {12, real(-50000.7)},
                                     {64, real(50000.7)}, {100, real(0.1)},   {256, real(1e9)},
                                     {1024, real(1000.1)}};

// Equations of three tokens whose offset is constant in the second. u_0 = e_0, which bias does not meet.
LocalProblem local_problem(const Context& context, const ConstantRow& row, real gain) {
  const auto [D, value] = row;
  std::vector<real> u(3 * D), offset = random(context, {3, D}, 1).to_vector(),
                              bias = random(context, {D}, 2).to_vector();
  for (int64_t token = 0; token < 3; ++token) u[token * D] = 1;
  std::fill_n(offset.begin() + D, D, value);
  bias[0] = 0;
  return {.u = Tensor(context, {3, 1, D}, u),
          .alpha = full(context, {3, 1}, real(0.5)),
          .offset = Tensor(context, {3, D}, offset),
          .gain = full(context, {3, D}, gain),
          .weight = affine(random(context, {D}, 3), real(0.2), 1).value(),
          .bias = Tensor(context, {D}, bias)};
}
// The same with a Kronecker product.
KroneckerProblem kronecker_problem(const Context& context, const ConstantRow& row) {
  const LocalProblem at = local_problem(context, row, 0);
  const KroneckerSizes sizes = kronecker_sizes(row.D);
  return {.left = random(context, {3, sizes.m1, sizes.m1}, 4),
          .right = random(context, {3, sizes.m2, sizes.m2}, 5),
          .offset = at.offset,
          .gain = at.gain,
          .weight = at.weight,
          .bias = at.bias};
}

void check_second(const std::string& name, const Tensor& y, const std::vector<double>& truth) {
  const std::vector<real> all = y.to_vector();
  const int64_t D = truth.size();
  check_close(name, std::vector<real>(all.begin() + D, all.begin() + 2 * D), truth, kClose);
}

// x's with every number of [begin, end) in each row times `factor`.
std::vector<real> times(std::vector<real> x, int64_t columns, int64_t begin, int64_t end,
                        real factor) {
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t column = i % columns;
    if (begin <= column && column < end) x[i] *= factor;
  }
  return x;
}

// u, b and c say nothing about the lengths of the vectors in p. Those are so far above 0 that SiLU
// is x.
void check_mixing(MixerKind kind, int64_t rank, int64_t D, real factor) {
  const KroneckerSizes sizes = kronecker_sizes(D);
  const SweepMixer mixer{.rank = rank,
                         .in_order = kind == MixerKind::householder,
                         .scale = 1,
                         .norm = KroneckerNorm::row,
                         .m1 = sizes.m1,
                         .m2 = sizes.m2};
  constexpr int64_t N = 16;
  const int64_t vectors = rank > 0 ? rank * D : sizes.triangles(),
                directions = vectors + (rank > 0 ? rank : sizes.m1 + sizes.m2),
                P = directions + 2 * N;
  const OpCase entry{.op = "fp_mamba_mix",
                     .inputs = {{{2, 3, P}, 40, 80}, {{2, 3, D}}, {{2, 3, D}}},
                     .apply =
                         [=](const Vars& in) {
                           const auto [mixed, b, c] = fp_mamba_mix({.projected = in[0],
                                                                    .projected_y = {},
                                                                    .projected_previous = {},
                                                                    .x = in[1],
                                                                    .y = in[2],
                                                                    .mixer = mixer,
                                                                    .N = N,
                                                                    .bc_offset = directions});
                           return Vars{mixed, b, c};
                         },
                     .reference = {}};
  Values inputs = draw_inputs(entry);
  inputs[0] = times(inputs[0], P, vectors, directions, real(0.01));  // gates that are open in part
  const auto large = [&](const std::vector<real>& p, real by) {
    return times(times(p, P, 0, vectors, by), P, directions, P, by);
  };
  for (const Context& context : contexts_of_every_kind()) {
    const Result expected = run_case(context, entry, inputs);
    Values changed = inputs;
    changed[0] = large(inputs[0], factor);
    Result found = run_case(context, entry, changed, expected.seeds);
    found.gradients[0] = large(found.gradients[0], factor);
    const std::string name = fmt::format("{} {} of {}, times {} on {}", name_of(kind), rank, D,
                                         factor, describe(context));
    for (const size_t i : {0, 1, 2}) {
      check_close(fmt::format("{}, output {}", name, i), found.outputs[i], expected.outputs[i],
                  1e-4);
      check_close(fmt::format("{}, gradient {}", name, i), found.gradients[i],
                  expected.gradients[i], 1e-3);
    }
  }
}

}  // namespace

TEST_CASE("large numbers: FP-Mamba's mixing by vectors and directions whose squares overflow") {
  const real factor = kDouble ? real(0x1p512) : real(0x1p62);
  for (const int64_t D : {12, 64, 300})
    for (const int64_t rank : {0, 1, 2, 3, 4})
      for (const MixerKind kind : {MixerKind::householder, MixerKind::dplr})
        check_mixing(rank == 0 ? MixerKind::kronecker : kind, rank, D, factor);
}

TEST_CASE("large numbers: the local equation of a constant row has LayerNorm's bias for its root") {
  const auto check = [](const Context& context, const ConstantRow& row, bool product) {
    const LocalProblem problem = local_problem(context, row, real(1e-3));
    const std::vector<real> bias = problem.bias.to_vector();
    const Tensor y = product ? kronecker_solve(kronecker_problem(context, row), kTolerance, 100).y
                             : local_solve(problem, kTolerance, 100).y;
    check_second(
        fmt::format("{} x {} on {}, Kronecker {}", row.D, row.value, describe(context), product), y,
        {bias.begin(), bias.end()});
  };
  for (const ConstantRow& row : kConstantRows) {
    for (const Context& context : contexts_of_every_kind()) check(context, row, true);
    // A GPU takes the mean of A in one part.
    for (const Context& context : contexts_of_every_isa()) check(context, row, false);
  }
}

// With n = 0 and J = diag(gamma / sqrt(eps)) (I - 1 1^T / D) diag(S) a e_0 e_0^T, only v_0 is not w's.
TEST_CASE("large numbers: the adjoint of a local equation at a constant row") {
  for (const Context& context : contexts_of_every_isa())
    for (const ConstantRow& row : kConstantRows) {
      const int64_t D = row.D;
      const LocalProblem problem = local_problem(context, row, real(1e-3));
      const Tensor y = local_solve(problem, kTolerance, 100).y, w = random(context, {3, D}, 6);
      const std::vector<real> weight = problem.weight.to_vector(), all = w.to_vector();
      std::vector<double> truth(all.begin() + D, all.begin() + 2 * D);
      const double part = 0.5 * 1e-3 / std::sqrt(double(problem.eps));
      double others = 0;
      for (int64_t d = 1; d < D; ++d) others += weight[d] * truth[d] / D;
      truth[0] = (truth[0] - part * others) / (1 - part * weight[0] * (1 - 1.0 / D));
      check_second(fmt::format("{} x {} on {}", D, row.value, describe(context)),
                   local_adjoint(problem, y, w), truth);
    }
}

}  // namespace fprnn::tests
