#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>

#include <algorithm>

namespace fprnn {

namespace {

// f at the solution on a tape of its own, with the variables it has there.
struct Linearised {
  Tape tape;
  Var y, f;
  std::vector<Var> inputs;

  Linearised(const Step& step, const Tensor& solution, const std::vector<Var>& outer)
      : tape(solution.context()), y(tape.variable(solution)) {
    for (const Var& input : outer)
      inputs.push_back(!input.defined()         ? Var()
                       : input.differentiable() ? tape.variable(input.value())
                                                : tape.constant(input.value()));
    f = step(y, inputs).f;
  }
  // Of f only its place on the tape is needed further: the memory of its value goes.
  void forget_value() { f = Var(y.value(), f.tape(), f.id()); }
  Tensor times_jacobian(const Tensor& v) const { return tape.vjp({f}, {v}, {y}).front(); }
};

// step without a record.
Evaluated<Tensor> evaluate(const Step& step, const Tensor& y, const std::vector<Var>& inputs) {
  std::vector<Var> values;
  for (const Var& input : inputs) values.emplace_back(input.value());
  const auto [f, residual] = step(Var(y), values);
  return {f.value(), residual};
}

Tensor sum_in_place(Tensor x, const Tensor& y) {
  if (!x.unique()) x = clone(x);
  add_in_place(x, y);
  return x;
}

// v as the rule has it.
AdjointSolution solve_adjoint(const Linearised& at, const Tensor& g, const GradientRule& rule,
                              const Adjoint& adjoint) {
  if (rule.kind == GradientRule::Kind::one_step) return g;
  const Map map = [&](const Tensor& v) { return sum_in_place(at.times_jacobian(v), g); };
  if (rule.kind == GradientRule::Kind::neumann) {
    Tensor v = g;
    for (int64_t k = 0; k < rule.terms; ++k) v = map(v).f;
    return v;
  }
  if (adjoint) return adjoint(g);
  const Solution solution = picard(
      map, g,
      {.tolerance = rule.tolerance, .max_iterations = rule.max_iterations, .backwards = true});
  return {solution.y, solution.iterations};
}

// The gradient of a solution: of the inputs by one product with all of f's Jacobian at v, which
// shows as well what v = g + J^T v leaves.
struct SolutionGradient {
  std::shared_ptr<const Linearised> at;
  GradientRule rule;
  Adjoint adjoint;  // the solver's own, if it has one
  Unconverged unconverged;
  std::shared_ptr<SolveReport> report;  // of an exact v, if anybody asks

  void operator()(Backward& back) const {
    const Tensor g = back.output();
    const AdjointSolution solution = solve_adjoint(*at, g, rule, adjoint);
    const bool judged = rule.kind == GradientRule::Kind::exact &&
                        (report != nullptr || unconverged != Unconverged::accept);
    std::vector<Var> wanted;
    for (const Var& input : at->inputs)
      if (input.defined() && input.differentiable()) wanted.push_back(input);
    if (judged) wanted.push_back(at->y);
    std::vector<Tensor> gradients = at->tape.vjp({at->f}, {solution.v}, wanted);
    if (judged) judge(solution, sum_in_place(std::move(gradients.back()), g));
    for (size_t i = 0, next = 0; i < at->inputs.size(); ++i)
      if (at->inputs[i].defined() && at->inputs[i].differentiable())
        back.accumulate(static_cast<int>(i), gradients[next++]);
  }

 private:
  // next = g + J^T v. A solver's own adjoint sums in another order: its residual may be larger by
  // rounding.
  void judge(const AdjointSolution& solution, const Tensor& next) const {
    constexpr real kSlack = 100;
    const SolveReport made{.residual = largest_residuals(next, solution.v),
                           .iterations = solution.iterations,
                           .tolerance = (adjoint ? kSlack : 1) * rule.tolerance};
    if (report != nullptr) *report = made;
    if (unconverged != Unconverged::accept) act_on(made.read(), unconverged, "gradient");
  }
};

void check(const FixedPointOptions& options, const Shape& start) {
  check_iterate(start);
  check_limits(options.tolerance, options.gradient.max_iterations);
  check_limits(options.gradient.tolerance, 1);
  require<ValueError>(options.gradient.terms >= 0, "fixed_point",
                      "the terms of a gradient must not be negative", options.gradient.terms);
}

}  // namespace

FixedPointResult fixed_point(const Step& step, const std::vector<Var>& inputs, Tensor start,
                             const Solve& solve, const FixedPointOptions& options) {
  check(options, start.shape());
  const Shape shape = start.shape();
  const Solution solution =
      solve([&](const Tensor& y) { return evaluate(step, y, inputs); }, std::move(start));
  const bool recorded = std::ranges::any_of(inputs, &Var::differentiable);
  const auto at = recorded ? std::make_shared<Linearised>(solution.trace ? solution.trace : step,
                                                          solution.y, inputs)
                           : nullptr;
  Tensor residual = solution.residual;
  if (recorded || !residual.defined()) {
    const Evaluated<Tensor> of = recorded ? at->f.value() : evaluate(step, solution.y, inputs);
    require(of.f.shape() == shape, "fixed_point", "step must not change the shape of y",
            of.f.shape(), shape);
    if (!residual.defined()) residual = largest_of_sequences(residuals_of(of, solution.y));
  }
  FixedPointResult result;
  result.on_device = {residual, solution.iterations, options.tolerance};
  if (recorded) at->forget_value();
  if (options.report || options.unconverged != Unconverged::accept)
    result.report = result.on_device.read();
  act_on(result.report, options.unconverged, "solution");
  result.y = record("fixed_point", inputs, solution.y,
                    SolutionGradient{.at = at,
                                     .rule = options.gradient,
                                     .adjoint = solution.adjoint,
                                     .unconverged = options.unconverged,
                                     .report = options.adjoint});
  return result;
}

}  // namespace fprnn
