#include <fprnn/core/vector.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <array>

namespace fprnn {

namespace {

constexpr double kTrainingQuantile = 0.75;  // of patience (the authors' code)

}  // namespace

SolverOptions ImplicitLayer::solver_on(const Conditions& on) const {
  SolverOptions options = solver;
  if (on.iteration_cap > 0) options.max_iterations = on.iteration_cap;
  if (!on.training) return options;
  if (options.solver == Solver::automatic) options.solver = Solver::sequential;
  options.patience.quantile = kTrainingQuantile;
  return options;
}

bool FixedPointLayer::capturable(const Conditions& on) const {
  return solver_on(on).solver == Solver::sequential && solver.unconverged == Unconverged::accept;
}

namespace {

struct PreparedProjection : PreparedWeights {
  explicit PreparedProjection(Projection made) : projection(std::move(made)) {}
  Projection projection;
};

}  // namespace

std::unique_ptr<PreparedWeights> FixedPointLayer::prepare() {
  Projection made = projection(parameters().front().parameter->value);
  if (!made.weight_x.defined()) return nullptr;
  return std::make_unique<PreparedProjection>(std::move(made));
}

Projection FixedPointLayer::projection(const Var& like, const Conditions& on) {
  if (on.prepared == nullptr) return projection(like);
  return static_cast<const PreparedProjection&>(*on.prepared).projection;
}

Var FixedPointLayer::evaluate(const Var& u, LayerState* state, const Conditions& on) {
  FixedPointState carried;
  carried.wanted = state != nullptr;
  if (state != nullptr && !state->empty()) {
    require<UsageError>(state->size() >= 2, "fixed_point",
                        "the state must be y and a carry, behind those of convolutions; parts",
                        state->size());
    carried = {{state->begin(), state->end() - 2}, state->end()[-2], state->end()[-1], true};
  }
  const Var out = forward(u, carried, on);
  if (state != nullptr) {
    *state = std::move(carried.convolutions);
    state->insert(state->end(), {carried.y, carried.carry});
  }
  return out;
}

Var FixedPointLayer::forward(const Var& u, FixedPointState& state, const Conditions& on) {
  if (u.shape().rank() == 3) {
    const int64_t B = u.size(0);
    const std::vector<Shape> convolutions = convolution_shapes(B);
    const FixedPointMap f = map();
    // After no step at all there are the convolutions' states alone.
    require<UsageError>(!state.y.defined() || state.convolutions.size() == convolutions.size(),
                        "fixed_point", "a state must be one of this layer: convolutions",
                        state.convolutions.size(), convolutions.size());
    check_state("fixed_point", state.convolutions, convolutions);
    check_state("fixed_point", std::array{state.y, state.carry},
                std::array{Shape{B, f.mixer.options().channels}, f.cell.carry_shape(B)});
  }
  FixedPointState next = state;
  const Var out = output(u, next, on);
  state = std::move(next);
  return out;
}

Var FixedPointLayer::solve(const FixedPointInputs& inputs, FixedPointState& state,
                           const Conditions& on) {
  const Shape shape = inputs.x.shape();
  const Context& context = inputs.x.context();
  const FixedPointMap f = map();
  const Vars all = inputs.flat();
  const SequenceProblem problem{.map = f,
                                .in = inputs.values(),
                                .past = {state.y, state.carry},
                                .options = solver_on(on),
                                .recorded = std::ranges::any_of(all, &Var::differentiable),
                                .carry_wanted = state.wanted};
  const SolverOptions& options = problem.options;

  const auto carry = std::make_shared<Tensor>();  // of the last application, that of the solution
  const Step step = [f, past = problem.past, like = problem.in, carry](const Var& y,
                                                                       const Vars& flat) {
    const auto applied = f.apply(y, past, like.with(flat));
    *carry = applied.carry.value();
    return Evaluated<Var>(applied.f, applied.residual);
  };
  Tensor swept;
  const Solve solve = [&](const Map& map, Tensor start) -> Solution {
    SequenceSolution solution = make_solver(problem, memory)->solve(map, std::move(start));
    used_ = solution.used;
    strayed_ = solution.strayed;
    history_ = std::move(solution.history);
    swept = std::move(solution.carry);
    return solution;
  };
  adjoint_ = std::make_shared<SolveReport>();
  // A sweep through time only writes what it starts from.
  Tensor start =
      options.solver == Solver::sequential ? Tensor(context, shape) : zeros(context, shape);
  const auto [y, report, on_device] =
      fixed_point(step, all, std::move(start), solve,
                  {.tolerance = options.solver == Solver::patience ? options.patience.threshold
                                                                   : options.tolerance,
                   .unconverged = options.unconverged,
                   .gradient = options.gradient,
                   .report = false,
                   .adjoint = adjoint_});
  report_ = on_device;
  solution_ = y.value();
  if (const int64_t T = shape[1]; T > 0 && state.wanted) {
    state.carry = swept.defined() ? swept : *carry;
    state.y = slice(y.value(), 1, T - 1, T).value().reshaped(shape.without(1));
  }
  return y;
}

}  // namespace fprnn
