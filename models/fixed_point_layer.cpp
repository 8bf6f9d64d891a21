#include <fprnn/core/vector.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace fprnn {

int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng) {
  require<ValueError>(shape >= 1 && scale > 0 && std::isfinite(scale), "solver",
                      "Gamma's shape must be at least 1 and its scale positive", shape, scale);
  const Rng fresh = rng.next_stream();
  double sum = 0;  // of as many exponentials as the shape says
  for (int64_t i = 0; i < shape; ++i) sum -= std::log1p(-static_cast<double>(fresh.uniform(i)));
  constexpr double kMost = 1e9;
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::min(scale * sum, kMost))));
}

void check(const StateDropout& dropout) {
  require<ValueError>(dropout.rate >= 0 && dropout.rate <= 1, "state_dropout",
                      "the rate must be in [0, 1]", dropout.rate);
}

void draw_state_mask(const StateDropout& dropout, const Tensor& mask) {
  check(dropout);
  Rng rng = dropout.rng;
  launch(mask.context(), RandomFill{.out = mask.data(),
                                    .count = mask.elements(),
                                    .rng = rng.next_stream(),
                                    .distribution = Distribution::keep,
                                    .offset = 0,
                                    .scale = 1,
                                    .rate = dropout.rate});
}

Var FixedPointLayer::state_mask(const Var& like) const {
  const Shape shape = like.shape().without(-1);
  if (state_dropout.mask.defined()) {
    require(state_dropout.mask.shape() == shape, "state_dropout", "a mask must be (B, T)",
            state_dropout.mask.shape(), like.shape());
    return state_dropout.mask;
  }
  if (state_dropout.rate == 0) return {};
  const Tensor mask(like.context(), shape);
  draw_state_mask(state_dropout, mask);
  return mask;
}

bool FixedPointLayer::recordable() const {
  return solver.solver == Solver::sequential && solver.unconverged == Unconverged::accept;
}

Var FixedPointLayer::forward(const Var& u) {
  FixedPointState state;
  state.wanted = false;
  return forward(u, state);
}

Var FixedPointLayer::forward(const Var& u, LayerState& state) {
  require<UsageError>(state.size() != 1, "fixed_point", "a state must be one of such a layer");
  FixedPointState carried;
  if (!state.empty())
    carried = {{state.begin(), state.end() - 2}, state.end()[-2], state.end()[-1], true};
  const Var out = forward(u, carried);
  state = std::move(carried.convolutions);
  state.insert(state.end(), {carried.y, carried.carry});
  return out;
}

Var FixedPointLayer::forward(const Var& u, FixedPointState& state) {
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
  const Var out = evaluate(u, next);
  state = std::move(next);
  return out;
}

Var FixedPointLayer::solve(const FixedPointInputs& inputs, FixedPointState& state) {
  const Shape shape = inputs.x.shape();
  const Context& context = inputs.x.context();
  const int64_t T = shape[1];
  const FixedPointMap f = map();
  const Past past{state.y, state.carry};
  const Vars all = inputs.flat();
  const SequenceProblem problem{
      f,           inputs.values(), past, solver, std::ranges::any_of(all, &Var::differentiable),
      state.wanted};

  const auto carry = std::make_shared<Tensor>();  // of the last application, that of the solution
  const Step step = [f, past, like = problem.in, carry](const Var& y, const Vars& flat) {
    const auto applied = f.apply(y, past, like.with(flat));
    *carry = applied.carry.value();
    return Evaluated<Var>(applied.f, applied.residual);
  };
  history_ = {};
  const std::unique_ptr<SequenceSolver> by = make_solver(problem, memory, history_);
  const Solve solve = [&](const Map& map, Tensor start) {
    return by->solve(map, std::move(start));
  };
  adjoint_ = std::make_shared<SolveReport>();
  const FixedPointOptions options{
      .tolerance = solver.solver == Solver::patience ? solver.patience.threshold : solver.tolerance,
      .unconverged = solver.unconverged,
      .gradient = solver.gradient,
      .report = false,
      .adjoint = adjoint_};
  // A sweep through time only writes it.
  Tensor start =
      solver.solver == Solver::sequential ? Tensor(context, shape) : zeros(context, shape);
  const auto [y, report, on_device] = fixed_point(step, all, std::move(start), solve, options);
  report_ = on_device;
  solution_ = y.value();
  used_ = by->used();
  strayed_ = by->strayed();
  if (T > 0 && state.wanted) {
    state.carry = by->carry().defined() ? by->carry() : *carry;
    state.y = slice(y.value(), 1, T - 1, T).value().reshaped(shape.without(1));
  }
  return y;
}

}  // namespace fprnn
