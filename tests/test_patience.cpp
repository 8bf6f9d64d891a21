// Iteration with patience: smaller steps for sequences that do not improve, and a stop by the quantile of what
// they reached.
#include <doctest/doctest.h>
#include <fprnn/models/solvers/patience.h>

#include <algorithm>
#include <cmath>

#include "close.h"
#include "refused.h"
#include "small_fixed_point.h"

namespace fprnn::tests {

namespace {

// f(y) = slope y + 1, a slope for each sequence: (B, 1, D).
Map sloped(const Tensor& slope) {
  return [slope](const Tensor& y) { return affine(mul(y, slope), 1, 1).value(); };
}

// The q-quantile as the definition has it.
double naive_quantile(Numbers values, double q) {
  std::sort(values.begin(), values.end());
  const double at = q * double(values.size() - 1), below = std::floor(at);
  if (at == below) return values[size_t(below)];
  return double(values[size_t(below)]) * (below + 1 - at) +
         double(values[size_t(below) + 1]) * (at - below);
}

}  // namespace

TEST_CASE("fixed point: patience stops by the quantile of the best residuals") {
  const Context context = test_context();
  const Map map = sloped(Tensor(context, {kB, 1, 1}, Numbers{real(0.1), real(0.5), real(0.95)}));
  const Tensor start = zeros(context, {kB, kT, kD});
  int64_t before = 0;
  for (const double quantile : {0.0, 0.5, 0.75, 1.0}) {
    PatienceHistory trace;
    const Solution solution =
        patience(map, start, {.threshold = kLoose, .quantile = quantile}, &trace);
    const Counts iterations = counts(solution);
    const auto& best = trace.best_residual;
    REQUIRE(best.size() >= 2);
    CHECK(iterations == Counts(kB, int64_t(best.size())));
    CHECK(best.back().size() == kB);
    CHECK(trace.step_size.size() == kB);
    CHECK(naive_quantile(best.back(), quantile) < kLoose);
    CHECK(naive_quantile(best[best.size() - 2], quantile) >= kLoose);
    CHECK((best.back()[2] < kLoose) == (quantile == 1));
    CHECK(iterations[0] > before);
    before = iterations[0];
  }
}

TEST_CASE("fixed point: patience shrinks the steps of what does not improve") {
  constexpr int kPatience = 5;
  const Context context = test_context();
  const Tensor start = zeros(context, {kB, kT, kD});
  const Map map = line_map(real(-1.05), 1);  // with a step of 0.99 errors grow by 1.03
  PatienceOptions options{
      .threshold = kLoose, .max_iterations = kCap, .decay = 1, .patience = kPatience};
  PatienceHistory stuck;
  CHECK(counts(patience(map, start, options, &stuck)) == Counts(kB, kCap));
  CHECK(stuck.best_residual.size() == kCap);
  CHECK(stuck.best_residual.back()[0] >= kLoose);

  options.decay = real(0.9);
  PatienceHistory trace;
  const Counts iterations = counts(patience(map, start, options, &trace));
  CHECK(iterations[0] < kCap);
  CHECK(trace.best_residual.size() == size_t(iterations[0]));
  CHECK(trace.best_residual.back()[0] < kLoose);
  real step = options.step_size;
  for (int64_t l = 1, idle = 0; l < iterations[0]; ++l) {
    idle = trace.best_residual[l] == trace.best_residual[l - 1] ? idle + 1 : 0;
    if (idle > 0 && idle % kPatience == 0) step *= options.decay;
  }
  CHECK(step < options.step_size);
  CHECK(trace.step_size == Numbers(kB, step));
}

// NaN never improves: 0.99 * 0.9^7 is the first step below a half.
TEST_CASE("fixed point: patience stops when all steps are small") {
  const Context context = test_context();
  PatienceHistory trace;
  const auto solution =
      patience(line_map(kNaN, 1), zeros(context, {kB, kT, kD}),
               {.max_iterations = kCap, .min_step_size = real(0.5), .patience = 2}, &trace);
  CHECK(counts(solution) == Counts(kB, 14));
  CHECK(trace.best_residual.size() == 14);
  for (const real step : trace.step_size) CHECK((step < real(0.5) && step > real(0.47)));
}

TEST_CASE("fixed point: a shrinking step settles strong negative feedback") {
  const Context context = test_context();
  const Map map = [](const Tensor& y) { return affine(y, real(-1.5), 1).value(); };
  const Tensor start = zeros(context, {2, 3, 2});
  constexpr real kNear = real(1e-3);
  const Solution solution =
      picard(map, start, {.tolerance = kNear, .max_iterations = 100, .shrink_after = 3});
  CHECK(counts(solution)[0] < 100);
  for (const real y : solution.y.to_vector()) CHECK(std::abs(y - real(0.4)) < 2 * kNear);
}

TEST_CASE("fixed point: patience's quantile is not spoilt by a sequence that is lost") {
  const Context context = test_context();
  const real nan = std::numeric_limits<real>::quiet_NaN();
  const Tensor slopes(context, {3, 1, 1}, std::vector<real>{real(0.1), real(0.5), nan});
  const Map map = [&](const Tensor& y) { return affine(mul(y, slopes), 1, 1).value(); };
  const Solution solution =
      patience(map, zeros(context, {3, 1, 1}),
               {.threshold = real(1e-3), .quantile = 0.5, .max_iterations = 500, .step_size = 1});
  CHECK(counts(solution)[0] < 20);
}

}  // namespace fprnn::tests
