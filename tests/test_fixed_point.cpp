// Fixed points, whatever solves them: what is refused, what is empty, memory and threads. The solvers are in
// test_picard.cpp and test_patience.cpp, the gradients in test_implicit_gradient.cpp.
#include <doctest/doctest.h>
#include <fprnn/models/solvers/patience.h>

#include "close.h"
#include "refused.h"
#include "small_fixed_point.h"

namespace fprnn::tests {

// Large enough for several pieces of work.
TEST_CASE("fixed point: the number of threads changes no bit") {
  constexpr int64_t kLong = 128, kWide = 64;
  std::vector<Numbers> expected;
  for (const int threads : {1, 2, 3}) {
    const Context context = context_with(threads);
    const auto values = cell_inputs(context, kB, kLong, kWide);
    const Tensor g = random(context, {kB, kLong, kWide}, 5);
    std::vector<Numbers> got{
        solved(cell, values, zeros(context, g.shape()), kLoose).y.value().to_vector()};
    for (const Tensor& gradient : gradients(cell, values, g, gradient_named("exact")))
      got.push_back(gradient.to_vector());
    if (expected.empty()) expected = got;
    CHECK(got == expected);
  }
}

TEST_CASE("fixed point: options out of range are refused") {
  const Context context = test_context();
  const Tensor start = zeros(context, {kB, kT, kD});
  const Map map = line_map(real(0.5), 1);
  const Step step = line(real(0.5), 1);
  const real infinite = std::numeric_limits<real>::infinity();
  for (const real bad : {real(-1), kNaN, infinite}) {
    check_refused<ValueError>("tolerance", [&] { picard(map, start, {.tolerance = bad}); });
    check_refused<ValueError>("tolerance", [&] { patience(map, start, {.threshold = bad}); });
    check_refused<ValueError>(
        "tolerance", [&] { fixed_point(step, {}, start, by_picard(kLoose), {.tolerance = bad}); });
  }
  for (const int64_t bad : {0, -1}) {
    check_refused<ValueError>("cap", [&] { picard(map, start, {.max_iterations = bad}); });
    check_refused<ValueError>("cap", [&] { patience(map, start, {.max_iterations = bad}); });
    GradientRule rule;
    rule.max_iterations = bad;
    check_refused<ValueError>(
        "cap", [&] { fixed_point(step, {}, start, by_picard(kLoose), {.gradient = rule}); });
  }
  for (const real bad : {real(0), real(1.5), real(-1), kNaN})
    check_refused<ValueError>("damping", [&] { picard(map, start, {.damping = bad}); });
  for (const double bad : {2.0, -0.5, double(kNaN)})
    check_refused<ValueError>("quantile", [&] { patience(map, start, {.quantile = bad}); });
  check_refused<ValueError>("patience", [&] { patience(map, start, {.patience = 0}); });
}

TEST_CASE("fixed point: shapes that do not fit are refused") {
  const Context context = test_context();
  const Map map = line_map(real(0.5), 1);
  const Step step = line(real(0.5), 1);
  for (const Shape& bad : {Shape{}, Shape{kT, kD}, Shape{1, kB, kT, kD}}) {
    const Tensor start = zeros(context, bad);
    check_refused<ShapeError>("(B, T, D)", [&] { picard(map, start, {}); });
    check_refused<ShapeError>("(B, T, D)", [&] { patience(map, start, {}); });
    check_refused<ShapeError>("(B, T, D)",
                              [&] { fixed_point(step, {}, start, by_picard(kLoose), {}); });
  }
  const Tensor start = zeros(context, {kB, kT, kD});
  const Step shorter = [](const Var& y, const std::vector<Var>&) { return slice(y, 1, 0, kT - 1); };
  const Solve none = [](const Map&, const Tensor& y) {
    return Solution{y, int_zeros(y.context(), {kB})};
  };
  check_refused<ShapeError>("change the shape",
                            [&] { fixed_point(shorter, {}, start, by_picard(kLoose), {}); });
  check_refused<ShapeError>("change the shape", [&] { fixed_point(shorter, {}, start, none, {}); });
}

TEST_CASE("fixed point: no steps and no sequences") {
  const Context context = test_context();
  for (const Shape& shape : {Shape{kB, 0, kD}, Shape{0, kT, kD}}) {
    const auto values = cell_inputs(context, shape[0], shape[1]);
    const Tensor start = zeros(context, shape);
    const auto [y, report, record] = solved(cell, values, start);
    CHECK(y.shape() == shape);
    CHECK(report.iterations == Counts(shape[0], 0));
    CHECK(report.residual == Numbers(shape[0], 0));
    CHECK(report.unconverged() == 0);
    CHECK(report.max_iterations() == 0);
    CHECK(report.mean_iterations() == 0);
    CHECK(report.max_residual() == 0);
    for (const char* rule : {"one-step", "neumann:3", "exact"}) {
      const auto cotangents = gradients(cell, values, start, gradient_named(rule));
      CHECK(cotangents[0].shape() == shape);
      CHECK(cotangents[1].to_vector() == Numbers(kD * kD, 0));
      CHECK(cotangents[2].to_vector() == Numbers(kD * kD, 0));
    }
    const Map map = [&](const Tensor& at) { return cell(at, plain(values)).value(); };
    const auto patient = patience(map, start, {});
    CHECK(patient.y.shape() == shape);
    CHECK(counts(patient) == Counts(shape[0], 0));
  }
}

// From the second application on: it runs beside the result of the first.
TEST_CASE("fixed point: memory does not grow with the iterations") {
  constexpr int64_t kLong = 64, kWide = 16;
  const auto peak = [](int64_t cap, const std::string& rule) {
    const Context context = test_context();
    const auto values = cell_inputs(context, 2, kLong, kWide);
    const Tensor g = random(context, {2, kLong, kWide}, 5);
    const auto round = [&] {
      Tape tape(context);
      std::vector<Var> inputs;
      for (const Tensor& value : values) inputs.push_back(tape.variable(value));
      const auto result = fixed_point(
          cell, inputs, zeros(context, g.shape()), by_picard(0, cap),
          {.tolerance = 0, .unconverged = Unconverged::accept, .gradient = gradient_named(rule)});
      tape.vjp({result.y}, {g}, inputs);
      return result.report.max_iterations();
    };
    const int64_t iterations = round();
    const MemoryStatistics warm = context.memory().statistics();
    round();
    const MemoryStatistics last = context.memory().statistics();
    CHECK(last.peak_bytes == warm.peak_bytes);
    CHECK(last.bytes_in_use == warm.bytes_in_use);
    CHECK(last.system_allocations == warm.system_allocations);
    return std::pair(iterations, last.peak_bytes);
  };
  const auto [few, least] = peak(2, "one-step");
  const auto [many, most] = peak(256, "one-step");
  CHECK(few == 2);
  CHECK(many > 10);
  CHECK(most == least);
  CHECK(peak(256, "neumann:200").second == peak(2, "neumann:2").second);
}

}  // namespace fprnn::tests
