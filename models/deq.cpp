#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/deq.h>
#include <fprnn/models/registry.h>
#include <fprnn/models/solvers/patience.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr std::string_view kName = "deq";
// Of rows at the start: what injects x pulls z strongly, what z itself meets is short, so that f
// contracts by about 2/3 an iteration.
constexpr real kInjected = 2, kOutput = real(0.5), kOthers = real(0.25);
// Picard's damping is halved after so many iterations without progress.
constexpr int kShrinkAfter = 20;

DeqOptions resolved(DeqOptions options) {
  const int64_t D = options.attention.d_model;
  check_sizes(kName, {D});
  if (options.intermediate == 0) options.intermediate = 4 * D;
  check_sizes(kName, {options.intermediate});
  require<ValueError>(options.eps >= 0, kName, "eps must not be negative", options.eps);
  require<ValueError>(
      options.most_magnitude >= 0 && std::isfinite(static_cast<real>(options.most_magnitude)),
      kName, "most_magnitude must be finite and not negative", options.most_magnitude);
  check(options.solver);
  return options;
}

}  // namespace

Vars Deq::Inputs::flat() const {
  return {injected, qkv, o, ff1, ff1_bias, ff2, ff2_bias, norm1, norm1_bias, norm2, norm2_bias};
}
Deq::Inputs Deq::Inputs::of(const Vars& flat) {
  return {flat[0], flat[1], flat[2], flat[3], flat[4], flat[5],
          flat[6], flat[7], flat[8], flat[9], flat[10]};
}

Deq::Deq(Module& parent, std::string name, const Init& init, const DeqOptions& options)
    : ImplicitLayer(parent, std::move(name), options.solver),
      options_(resolved(options)),
      attention_(kName, init.context, options_.attention),
      qkv_(*this, "qkv", init, options_.attention.d_model, 3 * options_.attention.d_model),
      inject_(*this, "inject", init, options_.attention.d_model, 3 * options_.attention.d_model),
      o_(*this, "o", init, options_.attention.d_model, options_.attention.d_model),
      ff1_(*this, "ff1", init, options_.attention.d_model, options_.intermediate, {.bias = true}),
      ff2_(*this, "ff2", init, options_.intermediate, options_.attention.d_model, {.bias = true}),
      norm1_(*this, "norm1", init, options_.attention.d_model, options_.eps),
      norm2_(*this, "norm2", init, options_.attention.d_model, options_.eps) {
  for (const auto& [map, rows] : {std::pair{&qkv_, kOthers},
                                  {&inject_, kInjected},
                                  {&o_, kOutput},
                                  {&ff1_, kOthers},
                                  {&ff2_, kOthers}})
    map->magnitude.value = full(init.context, map->magnitude.value.shape(), rows);
}

// Magnitudes beyond the most count as that: g - relu(g - most) + relu(-g - most).
Var Deq::weight_of(const WeightNormLinear& map, const Var& like) const {
  const auto [g, v] = map.source(like);
  if (options_.most_magnitude == 0) return weight_norm(g, v);
  const real most = static_cast<real>(options_.most_magnitude);
  const Var above = relu(affine(g, 1, -most)), below = relu(affine(g, -1, -most));
  return weight_norm(add(sub(g, above), below), v);
}

Deq::Inputs Deq::inputs_of(const Var& x) {
  const auto here = [&](Parameter& parameter) { return on_tape_of(x, parameter); };
  return {.injected = inject_.forward(x),
          .qkv = weight_of(qkv_, x),
          .o = weight_of(o_, x),
          .ff1 = weight_of(ff1_, x),
          .ff1_bias = here(*ff1_.bias),
          .ff2 = weight_of(ff2_, x),
          .ff2_bias = here(*ff2_.bias),
          .norm1 = here(norm1_.weight),
          .norm1_bias = here(norm1_.bias),
          .norm2 = here(norm2_.weight),
          .norm2_bias = here(norm2_.bias)};
}

Var Deq::apply(const Var& z, const Inputs& in, AttentionCache& cache) const {
  const int64_t D = options_.attention.d_model;
  const std::vector<Var> parts = split(add(linear(z, in.qkv), in.injected), -1, {D, D, D});
  const Var a = attention_.attend(parts[0], parts[1], parts[2], cache);
  const Var z1 = layer_norm(add(z, linear(a, in.o)), in.norm1, in.norm1_bias, options_.eps);
  const Var ff = linear(relu(linear(z1, in.ff1, in.ff1_bias)), in.ff2, in.ff2_bias);
  return layer_norm(add(z1, ff), in.norm2, in.norm2_bias, options_.eps);
}

// One token after the other, each from zero, into z (B, T, D).
Solution Deq::by_steps(const Tensor& z, const Inputs& in, AttentionCache cache,
                       const SolverOptions& options) const {
  const Context& context = z.context();
  const int64_t B = z.size(0), T = z.size(1);
  const IntTensor iterations = int_zeros(context, {B});
  std::vector<Var> solved;
  for (const Var& injected : split(in.injected, 1, std::vector<int64_t>(T, 1))) {
    Inputs now = in;
    now.injected = injected;
    const Map f = [&](const Tensor& step) -> Evaluated<Tensor> {
      AttentionCache after = cache;
      return apply(step, now, after).value();
    };
    const Solution step = picard(f, zeros(context, z.shape().with(1, 1)),
                                 {.tolerance = options.of_a_step(),
                                  .max_iterations = options.max_iterations,
                                  .damping = options.damping,
                                  .shrink_after = kShrinkAfter});
    raise_to(iterations, step.iterations);
    apply(step.y, now, cache);
    solved.emplace_back(step.y);
  }
  return {.y = concat(solved, 1).value(), .iterations = iterations};
}

Solution Deq::solve(const Map& f, Tensor start, const Inputs& in, const AttentionCache& cache,
                    const SolverOptions& options) {
  const Solver solver = resolved(options.solver, start.context());
  used_ = solver == Solver::automatic ? Solver::parallel : solver;
  if (used_ == Solver::patience) {
    PatienceOptions rule = options.patience;
    rule.max_iterations = options.max_iterations;
    return patience(f, std::move(start), rule);
  }
  if (used_ == Solver::sequential && start.elements() > 0)
    return by_steps(start, in, cache, options);
  return picard(f, std::move(start),
                {.tolerance = options.tolerance,
                 .max_iterations = options.max_iterations,
                 .damping = options.damping,
                 .shrink_after = kShrinkAfter});
}

Var Deq::evaluate(const Var& x, LayerState* state, const Conditions& on) {
  require<ValueError>(!on.state_mask.defined(), kName, "no step of it can forget its state");
  const int64_t D = options_.attention.d_model;
  require(x.shape().rank() == 3 && x.size(-1) == D, kName, "x must be (B, T, d)", x.shape(), D);
  AttentionCache past;
  if (state != nullptr) past = attention_.cache_of(*state, x.size(0));
  const Inputs in = inputs_of(x);
  const Vars all = in.flat();
  Vars values;
  for (const Var& each : all) values.emplace_back(each.value());
  const SolverOptions options = solver_on(on);

  const auto after = std::make_shared<AttentionCache>();  // of the last application, the solution's
  const Step step = [this, past, after](const Var& z, const Vars& flat) -> Evaluated<Var> {
    AttentionCache cache = past;
    const Var f = apply(z, Inputs::of(flat), cache);
    *after = {cache.k.value(), cache.v.value()};
    return f;
  };
  const Solve solve_it = [&](const Map& f, Tensor start) {
    return solve(f, std::move(start), Inputs::of(values), past, options);
  };
  adjoint_ = std::make_shared<SolveReport>();
  const auto [y, report, on_device] =
      fixed_point(step, all, zeros(x.context(), x.shape()), solve_it,
                  {.tolerance = options.solver == Solver::patience ? options.patience.threshold
                                                                   : options.tolerance,
                   .unconverged = options.unconverged,
                   .gradient = options.gradient,
                   .report = false,
                   .adjoint = adjoint_});
  report_ = on_device;
  solution_ = y.value();
  if (state != nullptr) *state = {after->k.value(), after->v.value()};
  return y;
}

ModelKind deq_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    struct Own {
      CausalAttentionSettings attention{.positions = "none"};
      DeqOptions options;
      double damping = 1;
    };
    const auto own = std::make_shared<Own>();
    own->attention.add_to(settings);
    settings.add("intermediate", own->options.intermediate, "Width of the MLP; 0: 4 d-model");
    settings.add("most_magnitude", own->options.most_magnitude,
                 "Length of a weight's row beyond which it does not grow; 0: any");
    settings.add("damping", own->damping,
                 "Part of f in an iteration's step at first; it is halved where it gets nowhere");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      DeqOptions options = own->options;
      options.attention = own->attention.at(place.d_model);
      options.solver = place.solver;
      options.solver.damping = static_cast<real>(own->damping);
      return std::make_unique<Deq>(parent, std::move(name), init, options);
    };
  };
  return {.name = "deq",
          .about = "A Transformer block with tied weights, as the fixed point of itself",
          .declare = declare,
          .solver = true,
          .caches = true};
}

}  // namespace fprnn
