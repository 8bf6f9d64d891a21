// The Transformer block with tied weights as a fixed point: its solvers, its cache, its report.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/deq.h>
#include <fprnn/ops/layout.h>

#include "close.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr real kTolerance = kDouble ? real(1e-10) : real(1e-6);
constexpr double kNear = kDouble ? 1e-8 : 1e-4;

DeqOptions small(Positions positions = Positions::none) {
  return {.attention = {.d_model = 8, .heads = 2, .positions = positions, .max_length = 12},
          .intermediate = 12,
          .solver = {.tolerance = kTolerance,
                     .max_iterations = 3000,
                     .gradient = gradient_named("exact"),
                     .unconverged = Unconverged::accept}};
}

struct Small {
  Context context = test_context();
  Rng rng{.seed = 3};
  Root root = {};
  Deq block;
  Tensor x = random(context, {2, 11, 8}, 1);

  explicit Small(const DeqOptions& options = small())
      : block(root, "block", {context, rng}, options) {}
};

}  // namespace

TEST_CASE(
    "deq: all solvers find the same fixed point, whole and in chunks, and the same gradients") {
  for (const Positions positions : {Positions::none, Positions::rope, Positions::alibi}) {
    Small of(small(positions));
    const Tensor seed = random(of.context, of.x.shape(), 9);
    std::vector<real> first, first_gradient;
    for (const Solver solver : {Solver::sequential, Solver::parallel, Solver::patience}) {
      INFO(name_of(solver));
      of.block.solver.solver = solver;
      of.block.solver.patience.threshold = kTolerance;
      Tape tape(of.context);
      const Var x = tape.variable(of.x), y = of.block.forward(x);
      CHECK(of.block.used() == solver);
      CHECK(of.block.report().max_residual() <= kTolerance);
      CHECK(of.block.report().max_iterations() > 3);
      const auto gradient = tape.vjp({y}, {seed}, {x}).front().to_vector();
      CHECK(of.block.adjoint_report().unconverged() == 0);
      if (first.empty()) {
        first = y.value().to_vector();
        first_gradient = gradient;
      }
      check_close("y", y.value().to_vector(), first, kNear);
      check_close("gradient", gradient, first_gradient, 10 * kNear);
      LayerState state;
      Vars parts;
      for (const auto& [begin, end] : {std::pair{0, 1}, {1, 4}, {4, 4}, {4, 11}})
        parts.push_back(of.block.forward(slice(of.x, 1, begin, end), state));
      CHECK(state[0].shape() == Shape{2, 11, 2, 4});
      check_close("chunks", concat(parts, 1).value().to_vector(), first, kNear);
    }
  }
}

TEST_CASE("deq: a longer row of a map counts as the longest, unless there is none") {
  Small of;
  DeqOptions any = small();
  any.most_magnitude = 0;
  Small unbounded(any);
  const auto with = [](Small& small, real magnitude) {
    Parameter& g = small.block.parameter("o.parametrizations.weight.original0");
    g.value = full(small.context, g.value.shape(), magnitude);
    return small.block.forward(small.x).value().to_vector();
  };
  CHECK(same_bits(with(of, 3), with(of, 1)));
  CHECK(same_bits(with(of, -3), with(of, -1)));
  CHECK(relative_error(with(of, 1), with(of, real(0.9))) > 1e-3);
  CHECK(relative_error(with(unbounded, 3), with(unbounded, 1)) > 1e-3);
}

TEST_CASE("deq: what it cannot take is refused, what does not converge is reported") {
  const auto refused = [](const std::string& words, const DeqOptions& options) {
    check_refused<ValueError>(words, [&] { Small{options}; });
  };
  DeqOptions wrong = small();
  wrong.attention.heads = 3;
  refused("[deq] heads must divide d_model: d_model and heads, got 8 and 3", wrong);
  wrong = small();
  wrong.most_magnitude = -1;
  refused("most_magnitude must be finite and not negative, got -1", wrong);
  wrong = small();
  wrong.solver.damping = 0;
  refused("the damping must be in (0, 1]", wrong);

  Small of;
  LayerState state;
  of.block.forward(of.x, state);
  check_refused<ValueError>("not be longer than the cache: tokens and max_length, got 13 and 12",
                            [&] { of.block.forward(slice(of.x, 1, 0, 2), state); });
  CHECK(state[0].size(1) == 11);
  check_refused<UsageError>("this layer and batch",
                            [&] { of.block.forward(slice(of.x, 0, 0, 1), state); });
  check_refused<ShapeError>("x must be (B, T, d)", [&] {
    of.block.forward(zeros(of.context, {2, 8}));
  });
  of.block.solver.max_iterations = 2;
  of.block.forward(of.x);
  CHECK(of.block.report().unconverged() == 2);
}

}  // namespace fprnn::tests
