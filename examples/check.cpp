// What docs/extending.md promises of the op, the cell and the layer, in numbers.
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "leaky_relu.h"
#include "my_layer.h"

using namespace fprnn;

namespace {

using Numbers = std::vector<real>;
constexpr int64_t B = 2, T = 6, D = 4;
bool all_right = true;

void check_close(const char* what, const Numbers& x, const Numbers& y, double tolerance) {
  double error = x.size() == y.size() && !x.empty() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    const double d = std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
    error = std::isnan(d) ? INFINITY : std::max(error, d);
  }
  const bool right = error <= tolerance;
  all_right = all_right && right;
  std::printf("%s  %-44s off by %.2g of %.2g\n", right ? "ok   " : "WRONG", what, error, tolerance);
}
void check_close(const char* what, const Var& x, const Var& y, double tolerance) {
  check_close(what, x.value().to_vector(), y.value().to_vector(), tolerance);
}
Var at_step(const Var& x, int64_t t) { return slice(x, 1, t, t + 1); }

// The op is linear on both sides of 0, so differences are exact there.
void check_op(const Context& context) {
  const Numbers numbers{-2, -0.5, 0.25, 3};
  const Tensor x(context, {4}, numbers), seed = full(context, {4}, 1);
  Tape tape(context);
  const Var at = tape.variable(x);
  const Tensor gradient = tape.vjp({extending::leaky_relu(at, real(0.1))}, {seed}, {at})[0];
  const auto moved = [&](real by) { return extending::leaky_relu(affine(x, 1, by), real(0.1)); };
  const Var differences = affine(sub(moved(real(0.125)), moved(real(-0.125))), 4, 0);
  check_close("op: gradient against differences", gradient, differences, 1e-5);
}

// Each step is opened at a third of what it is given and closed with the rest.
void check_cell(const Context& context, Rng& rng) {
  const extending::MyCell cell(D);
  const Var mixed = normal(context, {B, T, D}, 0, 1, rng);
  const Vars token = cell.token(normal(context, {B, T, D}, 0, 1, rng),
                                {uniform(context, {B, T, 2 * D}, 0, 1, rng)}, {});
  const auto whole = cell.scan(mixed, token, {});
  Var carry;
  Vars v;
  for (int64_t t = 0; t < T; ++t) {
    const Var known = affine(at_step(mixed, t), real(1) / 3, 0),
              moved = sub(at_step(mixed, t), known);
    const auto step = cell.open(known, {at_step(token[0], t), at_step(token[1], t)}, carry);
    v.push_back(add(step.v, mul(step.gain, moved)));
    carry = cell.close(step, moved);
  }
  check_close("cell: opened and closed steps are its scan", concat(v, 1), whole.v, 1e-5);
  check_close("cell: and leave its carry", carry, whole.carry, 1e-5);
}

void check_solvers(extending::MyLayer& layer, const Tensor& u) {
  const Var expected = layer.forward(u);
  for (const Solver solver : {Solver::parallel, Solver::patience, Solver::automatic}) {
    layer.solver.solver = solver;
    check_close(std::string(name_of(solver)).c_str(), layer.forward(u), expected, 1e-4);
  }
  layer.solver.solver = Solver::sequential;
  LayerState state;
  Vars steps;
  for (int64_t t = 0; t < T; ++t) steps.push_back(layer.Layer::forward(at_step(u, t), state));
  check_close("one step at a time", concat(steps, 1), expected, 1e-4);
}

// Of all parameters, one after the other.
Numbers gradient_of(extending::MyLayer& layer, const Tensor& u, const std::string& rule) {
  layer.solver.gradient = gradient_named(rule);
  Tape tape(u.context());
  tape.backward(mean(square(layer.forward(tape.constant(u)))));
  Numbers all;
  for (const NamedParameter& named : layer.parameters()) {
    for (const real number : named.parameter->gradient.to_vector()) all.push_back(number);
    named.parameter->gradient = {};
  }
  return all;
}

double distance(const Numbers& x, const Numbers& y) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), y.begin(), 0.0, std::plus<>(),
                                      [](double a, double b) { return (a - b) * (a - b); }));
}

// Along the gradient the loss rises by the gradient's length.
void check_gradients(extending::MyLayer& layer, const Tensor& u) {
  const Numbers one_step = gradient_of(layer, u, "one-step"),
                neumann = gradient_of(layer, u, "neumann:8"),
                exact = gradient_of(layer, u, "exact");
  const double length = distance(exact, Numbers(exact.size())), step = 1e-2;
  const auto loss_at = [&](double by) {
    size_t begin = 0;
    std::vector<Tensor> before;
    for (const NamedParameter& named : layer.parameters()) {
      Tensor& value = named.parameter->value;
      before.push_back(value);
      const Tensor along(value.context(), value.shape(),
                         {exact.data() + begin, static_cast<size_t>(value.elements())});
      value = add(value, affine(along, static_cast<real>(by / length), 0)).value();
      begin += along.elements();
    }
    const real loss = mean(square(layer.forward(u))).value().to_vector()[0];
    for (size_t i = 0; i < before.size(); ++i) layer.parameters()[i].parameter->value = before[i];
    return static_cast<double>(loss);
  };
  const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
  check_close("exact gradient against differences", Numbers{static_cast<real>(slope / length)},
              Numbers{1}, 1e-2);
  const double far = distance(one_step, exact), near = distance(neumann, exact);
  all_right = all_right && near < far / 2;  // NaN is wrong too
  std::printf("from the exact gradient, %.2g long: one-step %.2g, neumann:8 %.2g\n", length, far,
              near);
}

}  // namespace

int main() {
  const Context context = Context::cpu({.threads = 2});
  Rng rng{.seed = 3};
  Module root;
  extending::MyLayer layer(root, "layer", {context, rng}, {.d_model = D});
  layer.solver.tolerance = layer.solver.patience.threshold = real(1e-6);
  const Tensor u = normal(context, {B, T, D}, 0, 2, rng);
  check_op(context);
  check_cell(context, rng);
  check_solvers(layer, u);
  check_gradients(layer, u);
  return all_right ? 0 : 1;
}
