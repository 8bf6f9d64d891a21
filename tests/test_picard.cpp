// Picard iteration: what it stops at, and that neither the start, batch mates nor later positions change an
// answer.
#include <doctest/doctest.h>

#include <cmath>

#include "close.h"
#include "refused.h"
#include "small_fixed_point.h"

namespace fprnn::tests {

namespace {

// Rounded otherwise, a residual may pass the tolerance an iteration sooner or later.
const int64_t kOnTheEdge = on_gpu() ? 1 : 0;
void check_count_alone(int64_t alone, int64_t together) {
  CHECK(std::abs(alone - together) <= kOnTheEdge);
}

}  // namespace

TEST_CASE("fixed point: picard reaches the tolerance and reports the residual of its answer") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  for (const real tolerance : {kTolerance, kLoose}) {
    const auto [y, report, record] = solved(cell, values, zeros(context, {kB, kT, kD}), tolerance);
    CHECK(report.unconverged() == 0);
    CHECK(report.tolerance == tolerance);
    const Numbers at = y.value().to_vector(), f = cell(y, plain(values)).value().to_vector();
    Numbers naive(kB);
    for (int64_t row = 0; row < kB * kT; ++row) {
      real difference = 0, size = 0;
      for (int64_t i = row * kD; i < (row + 1) * kD; ++i) {
        difference = std::max(difference, std::abs(f[i] - at[i]));
        size = std::max(size, std::abs(f[i]));
      }
      naive[row / kT] = std::max(naive[row / kT], difference / (size + real(1e-8)));
    }
    CHECK(report.residual == naive);
    CHECK(report.max_residual() == *std::max_element(naive.begin(), naive.end()));
    CHECK(report.max_residual() <= tolerance);
    CHECK(report.max_iterations() < kCap);
    CHECK(report.mean_iterations() <= double(report.max_iterations()));
  }
}

TEST_CASE("fixed point: the answer does not depend on the start or the damping") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor zero = zeros(context, {kB, kT, kD}), far = random(context, {kB, kT, kD}, 9, 5);
  const Numbers far_before = far.to_vector();
  const Numbers expected = solved(cell, values, zero).y.value().to_vector();
  check_close("another start", solved(cell, values, far).y.value().to_vector(), expected, kExact);
  CHECK(far.to_vector() == far_before);
  const Map map = [&](const Tensor& y) { return cell(y, plain(values)).value(); };
  const auto damped =
      picard(map, zero, {.tolerance = kTolerance, .max_iterations = kCap, .damping = real(0.6)});
  check_close("damped", damped.y.to_vector(), expected, kExact);
}

TEST_CASE("fixed point: a start at the solution takes one application and stays") {
  const Context context = test_context();
  const Tensor start = full(context, {kB, kT, kD}, 2);
  const auto [y, report, record] = solved(line(real(0.5), 1), {}, start);
  CHECK(report.iterations == Counts(kB, 1));
  CHECK(report.residual == Numbers(kB, 0));
  CHECK(y.value().to_vector() == start.to_vector());
}

TEST_CASE("fixed point: batch mates do not change an answer") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  for (const real tolerance : {kLoose, kTolerance}) {
    const auto together = solved(cell, values, zeros(context, {kB, kT, kD}), tolerance);
    CHECK(together.report.iterations[0] != together.report.iterations[kB - 1]);
    for (int64_t b = 0; b < kB; ++b) {
      const auto alone = solved(cell, {part(values[0], b, b + 1, kT), values[1], values[2]},
                                zeros(context, {1, kT, kD}), tolerance);
      check_same_alone("y", alone.y.value().to_vector(),
                       part(together.y.value(), b, b + 1, kT).to_vector(), 2 * tolerance);
      check_count_alone(alone.report.iterations[0], together.report.iterations[b]);
      if (!on_gpu()) CHECK(alone.report.residual[0] == together.report.residual[b]);
    }
  }
}

TEST_CASE("fixed point: what comes later does not change an answer") {
  constexpr int64_t kLong = 9, kShort = 4;
  const Context context = test_context();
  const auto values = cell_inputs(context, kB, kLong);
  for (const real tolerance : {kLoose, kTolerance}) {
    const auto whole = solved(cell, values, zeros(context, {kB, kLong, kD}), tolerance);
    const auto prefix = solved(cell, {part(values[0], 0, kB, kShort), values[1], values[2]},
                               zeros(context, {kB, kShort, kD}), tolerance);
    check_same_alone("prefix", prefix.y.value().to_vector(),
                     part(whole.y.value(), 0, kB, kShort).to_vector(), 2 * tolerance);
    for (int64_t b = 0; b < kB; ++b)
      CHECK(prefix.report.iterations[b] <= whole.report.iterations[b] + kOnTheEdge);
  }
}

TEST_CASE("fixed point: a map that diverges stops at the cap") {
  constexpr int64_t kFew = 5;
  const Context context = test_context();
  const Tensor start = zeros(context, {kB, kT, kD});
  const auto [y, report, record] = solved(line(2, 1), {}, start, kLoose, kFew);
  CHECK(report.unconverged() == kB);
  CHECK(report.iterations == Counts(kB, kFew));
  CHECK(!report.converged(0));
  CHECK(y.value().to_vector() == Numbers(start.elements(), 31));  // 2^5 - 1
  const FixedPointOptions strict{.tolerance = kLoose, .unconverged = Unconverged::fail};
  const auto fail = [&] { fixed_point(line(2, 1), {}, start, by_picard(kLoose, kFew), strict); };
  check_refused<ConvergenceError>("solution", fail);
  check_refused<ConvergenceError>("residual, tolerance", fail);
  check_refused<ConvergenceError>(
      fmt::format("{} and {}", describe(report.max_residual()), describe(kLoose)), fail);
}

TEST_CASE("fixed point: NaN is not converged and stays in its sequence") {
  constexpr int64_t kFew = 60;
  const Context context = test_context();
  auto values = cell_inputs(context);
  const auto sound = solved(cell, values, zeros(context, {kB, kT, kD}), kLoose, kFew);
  REQUIRE(sound.report.unconverged() == 0);
  Numbers x = values[0].to_vector();
  x[(kT + 2) * kD + 1] = kNaN;  // sequence 1, position 2
  values[0] = Tensor(context, {kB, kT, kD}, x);
  const auto broken = solved(cell, values, zeros(context, {kB, kT, kD}), kLoose, kFew);
  CHECK(broken.report.unconverged() == 1);
  CHECK(!broken.report.converged(1));
  CHECK(broken.report.iterations[1] == kFew);
  CHECK(std::isnan(broken.report.residual[1]));
  CHECK(std::isnan(broken.report.max_residual()));
  for (const int64_t b : {0, 2}) {
    CHECK(broken.report.iterations[b] == sound.report.iterations[b]);
    CHECK(part(broken.y.value(), b, b + 1, kT).to_vector() ==
          part(sound.y.value(), b, b + 1, kT).to_vector());
  }
}

// Errors grow by 1.5 in size at a full step and shrink by 4 at half of one.
TEST_CASE("fixed point: strong negative feedback needs a smaller step") {
  constexpr int64_t kFew = 40;
  const Context context = test_context();
  const Tensor start = zeros(context, {kB, kT, kD});
  const Map map = line_map(real(-1.5), 1);
  PicardOptions options{.tolerance = kLoose, .max_iterations = kFew};
  CHECK(counts(picard(map, start, options)) == Counts(kB, kFew));
  options.damping = real(0.5);
  const auto solution = picard(map, start, options);
  CHECK(counts(solution)[0] < kFew);
  check_close("the fixed point", solution.y.to_vector(), Numbers(start.elements(), real(0.4)),
              2 * kLoose);
}

}  // namespace fprnn::tests
