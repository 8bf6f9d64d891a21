// Fixed points: what the solvers stop at, that the gradients are those of the solution whatever found
// it, and that neither batch mates, later positions nor threads change an answer.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/solvers/patience.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <limits>

#include "close.h"
#include "needs.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

using Numbers = std::vector<real>;
using Counts = std::vector<int64_t>;

constexpr double kRounding = kDouble ? 1e-12 : 1e-5;  // the same sum in another order
constexpr double kExact = kDouble ? 1e-9 : 1e-4;      // two ways to what both approach
constexpr real kTolerance = kDouble ? real(1e-13) : real(1e-6);
constexpr real kLoose = real(1e-3);
constexpr int64_t kCap = 500;
constexpr int64_t kB = 3, kT = 5, kD = 3;
constexpr real kNaN = std::numeric_limits<real>::quiet_NaN();

// y = tanh(shift(y) W^T + y V^T + x): causal, and with rows of V below 1 a contraction.
Var cell(const Var& y, const std::vector<Var>& inputs) {
  return tanh(add(add(linear(shift(y), inputs[1]), linear(y, inputs[2])), inputs[0]));
}

// The same with one matrix in both places.
Var tied_cell(const Var& y, const std::vector<Var>& inputs) {
  return tanh(add(add(linear(shift(y), inputs[1]), linear(y, inputs[1])), inputs[0]));
}

// x, W and V. Sequences differ in size, hence in how fast they converge.
std::vector<Tensor> cell_inputs(const Context& context, int64_t B = kB, int64_t T = kT,
                                int64_t D = kD) {
  Numbers x = random(context, {B, T, D}, 1).to_vector();
  for (int64_t i = 0; i < B * T * D; ++i) x[i] *= std::pow(real(4), real(i / (T * D)) - 1);
  const real bound = real(0.9) / real(D);
  return {Tensor(context, {B, T, D}, x), random(context, {D, D}, 2, bound),
          random(context, {D, D}, 3, bound)};
}

Counts counts(const Solution& solution) {
  const auto iterations = solution.iterations.to_vector();
  return {iterations.begin(), iterations.end()};
}

Solve by_picard(real tolerance, int64_t cap = kCap) {
  return [=](const Map& f, const Tensor& start) {
    return picard(f, start, {.tolerance = tolerance, .max_iterations = cap});
  };
}

std::vector<Var> plain(const std::vector<Tensor>& values) { return {values.begin(), values.end()}; }

FixedPointResult solved(const Step& step, const std::vector<Tensor>& values, const Tensor& start,
                        real tolerance = kTolerance, int64_t cap = kCap) {
  return fixed_point(step, plain(values), start, by_picard(tolerance, cap),
                     {.tolerance = tolerance, .unconverged = Unconverged::accept});
}

// The cotangents of the inputs when that of the solution is `seed`.
std::vector<Tensor> gradients(const Step& step, const std::vector<Tensor>& values,
                              const Tensor& seed, const GradientRule& rule,
                              const Adjoint& adjoint = {}) {
  Tape tape(seed.context());
  std::vector<Var> inputs;
  for (const Tensor& value : values) inputs.push_back(tape.variable(value));
  const auto result = fixed_point(step, inputs, zeros(seed.context(), seed.shape()),
                                  [&](const Map& f, const Tensor& start) {
                                    Solution solution = by_picard(kTolerance)(f, start);
                                    solution.adjoint = adjoint;
                                    return solution;
                                  },
                                  {.tolerance = kTolerance,
                                   // an adjoint of the caller's may be wrong on purpose
                                   .unconverged = adjoint ? Unconverged::accept : Unconverged::fail,
                                   .gradient = rule});
  return tape.vjp({result.y}, {seed}, inputs);
}

// step at a point, for products with its Jacobians.
struct Linearised {
  Tape tape;
  Var y, f;
  std::vector<Var> inputs;

  Linearised(const Step& step, const std::vector<Tensor>& values, const Tensor& at)
      : tape(at.context()), y(tape.variable(at)) {
    for (const Tensor& value : values) inputs.push_back(tape.variable(value));
    f = step(y, inputs).f;
  }
  Tensor times_jacobian(const Tensor& v) const { return tape.vjp({f}, {v}, {y})[0]; }
  std::vector<Tensor> input_gradients(const Tensor& v) const { return tape.vjp({f}, {v}, inputs); }
};

void check_close_all(const std::string& name, const std::vector<Tensor>& got,
                     const std::vector<Tensor>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    check_close(fmt::format("{}, input {}", name, i), got[i].to_vector(), expected[i].to_vector(),
                tolerance);
}

// The solution reached by recording every application from zero.
std::vector<Tensor> unrolled_gradients(const Step& step, const std::vector<Tensor>& values,
                                       const Tensor& seed) {
  constexpr int kSteps = 1000;
  Tape tape(seed.context());
  std::vector<Var> inputs;
  for (const Tensor& value : values) inputs.push_back(tape.variable(value));
  Var y = zeros(seed.context(), seed.shape());
  for (int l = 0; l < kSteps; ++l) y = step(y, inputs).f;
  return tape.vjp({y}, {seed}, inputs);
}

// a x = b by elimination with row exchanges.
std::vector<double> dense_solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < n; ++i)
      if (std::abs(a[i][k]) > std::abs(a[pivot][k])) pivot = i;
    std::swap(a[k], a[pivot]);
    std::swap(b[k], b[pivot]);
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = a[i][k] / a[k][k];
      for (size_t j = k; j < n; ++j) a[i][j] -= factor * a[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) b[k] -= a[k][j] * b[j];
    b[k] /= a[k][k];
  }
  return b;
}

// Rounded otherwise, a residual may pass the tolerance an iteration sooner or later.
const int64_t kOnTheEdge = on_gpu() ? 1 : 0;
void check_count_alone(int64_t alone, int64_t together) {
  CHECK(std::abs(alone - together) <= kOnTheEdge);
}

// Rows [b, b + 1) and [0, T) of a (B, T, D) tensor.
Tensor part(const Tensor& x, int64_t begin, int64_t end, int64_t T) {
  return slice(slice(x, 0, begin, end), 1, 0, T).value();
}

// f(y) = scale y + shift, the same everywhere.
Step line(real scale, real shift) {
  return [=](const Var& y, const std::vector<Var>&) { return affine(y, scale, shift); };
}
Map line_map(real scale, real shift) {
  return [=](const Tensor& y) { return affine(y, scale, shift).value(); };
}

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

TEST_CASE("fixed point: K Neumann terms are the sum over powers of the Jacobian") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor g = random(context, {kB, kT, kD}, 5);
  const Linearised at(cell, values, solved(cell, values, zeros(context, g.shape())).y.value());
  for (const int64_t terms : {0, 1, 50}) {
    Tensor power = g, v = clone(g);
    for (int64_t k = 0; k < terms; ++k) {
      power = at.times_jacobian(power);
      add_in_place(v, power);
    }
    check_close_all(fmt::format("{} terms", terms),
                    gradients(cell, values, g, gradient_named(fmt::format("neumann:{}", terms))),
                    at.input_gradients(v), kRounding);
  }
}

TEST_CASE("fixed point: one-step is no Neumann term") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor g = random(context, {kB, kT, kD}, 5);
  const auto one_step = gradients(cell, values, g, gradient_named("one-step")),
             no_terms = gradients(cell, values, g, gradient_named("neumann:0"));
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(one_step[i].to_vector() == no_terms[i].to_vector());
  const auto exact = gradients(cell, values, g, gradient_named("exact"));
  CHECK(relative_error(one_step[0].to_vector(), exact[0].to_vector()) > 0.01);
}

TEST_CASE("fixed point: exact is many Neumann terms, the unroll and the dense solve") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor g = random(context, {kB, kT, kD}, 5);
  const auto exact = gradients(cell, values, g, gradient_named("exact"));
  check_close_all("Neumann", exact, gradients(cell, values, g, gradient_named("neumann:300")),
                  kExact);
  check_close_all("unroll", exact, unrolled_gradients(cell, values, g), kExact);

  const Linearised at(cell, values, solved(cell, values, zeros(context, g.shape())).y.value());
  const int64_t n = g.elements();
  std::vector<std::vector<double>> matrix(n, std::vector<double>(n));  // I - J^T
  for (int64_t j = 0; j < n; ++j) {
    Numbers unit(n);
    unit[j] = 1;
    const Numbers column = at.times_jacobian(Tensor(context, g.shape(), unit)).to_vector();
    for (int64_t i = 0; i < n; ++i) matrix[i][j] = double(i == j) - double(column[i]);
  }
  const Numbers right = g.to_vector();
  const auto v = dense_solve(matrix, {right.begin(), right.end()});
  check_close_all("dense", exact,
                  at.input_gradients(Tensor(context, g.shape(), Numbers(v.begin(), v.end()))),
                  kExact);
}

// Both places of the matrix count, and each once.
TEST_CASE("fixed point: a parameter used twice in the step gets the sum") {
  const Context context = test_context();
  auto values = cell_inputs(context);
  values.pop_back();
  const Tensor g = random(context, {kB, kT, kD}, 5);
  check_close_all("tied", gradients(tied_cell, values, g, gradient_named("exact")),
                  unrolled_gradients(tied_cell, values, g), kExact);

  Parameter weight{"weight", values[1], {}};
  Tape tape(context);
  const auto result = fixed_point(tied_cell, {tape.constant(values[0]), tape.leaf(weight)},
                                  zeros(context, g.shape()), by_picard(kTolerance),
                                  {.tolerance = kTolerance, .gradient = gradient_named("exact")});
  tape.backward(sum(mul(result.y, g)));
  check_close("parameter", weight.gradient.to_vector(),
              unrolled_gradients(tied_cell, values, g)[1].to_vector(), kExact);
}

// Fourth order with a step of 1e-3: what is left is below 1e-11.
TEST_CASE("fixed point: exact is the derivative of the whole solve" * needs_double()) {
  constexpr real kStep = real(1e-3);
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor g = random(context, {kB, kT, kD}, 5);
  const Numbers seed = g.to_vector();
  const auto exact = gradients(cell, values, g, gradient_named("exact"));
  for (size_t input = 0; input < values.size(); ++input) {
    std::vector<double> difference;
    for (int64_t i = 0; i < values[input].elements(); ++i) {
      const auto loss = [&](real change) {
        auto changed = values;
        Numbers moved = values[input].to_vector();
        moved[i] += change;
        changed[input] = Tensor(context, values[input].shape(), moved);
        const Numbers y = solved(cell, changed, zeros(context, g.shape()), 0).y.value().to_vector();
        double total = 0;
        for (size_t k = 0; k < y.size(); ++k) total += double(seed[k]) * double(y[k]);
        return total;
      };
      difference.push_back(
          (8 * (loss(kStep) - loss(-kStep)) - (loss(2 * kStep) - loss(-2 * kStep))) /
          (12 * double(kStep)));
    }
    check_close(fmt::format("input {}", input), exact[input].to_vector(), difference, kExact);
  }
}

TEST_CASE("fixed point: an adjoint of the caller's serves the exact gradient alone") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  const Tensor g = random(context, {kB, kT, kD}, 5);
  int calls = 0;
  const Adjoint triple = [&](const Tensor& cotangent) {
    ++calls;
    CHECK(cotangent.to_vector() == g.to_vector());
    return affine(cotangent, 3, 0).value();
  };
  const auto plain_step = gradients(cell, values, g, gradient_named("one-step"));
  const auto ignored = gradients(cell, values, g, gradient_named("one-step"), triple);
  gradients(cell, values, g, gradient_named("neumann:2"), triple);
  CHECK(calls == 0);
  const auto used = gradients(cell, values, g, gradient_named("exact"), triple);
  CHECK(calls == 1);
  const Linearised at(cell, values, solved(cell, values, zeros(context, g.shape())).y.value());
  check_close_all("tripled", used, at.input_gradients(affine(g, 3, 0).value()), kRounding);
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(ignored[i].to_vector() == plain_step[i].to_vector());
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

TEST_CASE("fixed point: a gradient that misses its tolerance is refused where solutions are") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  GradientRule rule = gradient_named("exact");
  rule.max_iterations = 1;
  check_refused<ConvergenceError>("gradient", [&] {
    gradients(cell, values, random(context, {kB, kT, kD}, 5), rule);
  });
}

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

TEST_CASE("fixed point: gradients have names") {
  for (const std::string name : {"one-step", "neumann:0", "neumann:7", "neumann:1000", "exact"})
    CHECK(name_of(gradient_named(name)) == name);
  CHECK(gradient_named("neumann:7").terms == 7);
  CHECK(gradient_named("exact").kind == GradientRule::Kind::exact);
  for (const std::string bad :
       {"", "neumann", "neumann:", "neumann:x", "neumann:-1", "neumann:1x", "neumann:1.5",
        "neumann: 1", "neumann:99999999999999999999", "7", "exact ", " exact", "Exact", "one_step"})
    check_refused<ValueError>("gradients are", [&] { gradient_named(bad); });
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

TEST_CASE("fixed point: a rule for gradients out of range is refused before it is needed") {
  const Context context = test_context();
  const Step half = [](const Var& y, const std::vector<Var>&) { return affine(y, real(0.5), 1); };
  const Solve solve = [](const Map& f, const Tensor& start) { return picard(f, start, {}); };
  for (const GradientRule& rule : {GradientRule{.tolerance = -1}, GradientRule{.terms = -1},
                                   GradientRule{.max_iterations = 0}})
    CHECK_THROWS_AS(fixed_point(half, {}, zeros(context, {1, 1, 1}), solve, {.gradient = rule}),
                    ValueError);
}

}  // namespace fprnn::tests
