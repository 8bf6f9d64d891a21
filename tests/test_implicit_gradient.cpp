// The gradients of a fixed point: they are those of the solution, whatever found it.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "close.h"
#include "needs.h"
#include "refused.h"
#include "small_fixed_point.h"

namespace fprnn::tests {

namespace {

// The same with one matrix in both places.
Var tied_cell(const Var& y, const std::vector<Var>& inputs) {
  return tanh(add(add(linear(shift(y), inputs[1]), linear(y, inputs[1])), inputs[0]));
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

}  // namespace

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

TEST_CASE("fixed point: a gradient that misses its tolerance is refused where solutions are") {
  const Context context = test_context();
  const auto values = cell_inputs(context);
  GradientRule rule = gradient_named("exact");
  rule.max_iterations = 1;
  check_refused<ConvergenceError>("gradient", [&] {
    gradients(cell, values, random(context, {kB, kT, kD}, 5), rule);
  });
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
