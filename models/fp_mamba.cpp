#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/mamba.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_adjoint.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/outer.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/selective_scan.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

struct DependenceName {
  std::string_view name;
  bool HiddenDependence::*member;
};
constexpr DependenceName kDependenceNames[] = {{"q", &HiddenDependence::q},
                                               {"b", &HiddenDependence::b},
                                               {"c", &HiddenDependence::c},
                                               {"lambda", &HiddenDependence::lambda}};

}  // namespace

HiddenDependence hidden_dependence_named(std::string_view names) {
  HiddenDependence dependence{false, false, false, false};
  if (names == "none") return dependence;
  for (std::string_view rest = names;;) {
    const size_t comma = rest.find(',');
    const auto found =
        std::ranges::find(kDependenceNames, rest.substr(0, comma), &DependenceName::name);
    require<ValueError>(found != std::end(kDependenceNames), "fp_mamba",
                        "hidden dependence is none or some of q,b,c,lambda", names);
    dependence.*found->member = true;
    if (comma == std::string_view::npos) return dependence;
    rest = rest.substr(comma + 1);
  }
}

std::string name_of(const HiddenDependence& dependence) {
  std::string names;
  for (const auto& [name, member] : kDependenceNames) {
    if (!(dependence.*member)) continue;
    if (!names.empty()) names += ',';
    names += name;
  }
  return names.empty() ? "none" : names;
}

namespace {

FpMambaOptions resolved(FpMambaOptions options) {
  check_sizes("fp_mamba", {options.d_model, options.d_state, options.expand, options.layers});
  if (options.dt_rank == 0) options.dt_rank = (options.d_model + 15) / 16;
  check_sizes("fp_mamba", {options.dt_rank, options.expand * options.d_model});
  if (options.conv_width != 0) check_sizes("fp_mamba", {options.conv_width});
  check(options.solver);
  require<ValueError>(options.eps > 0 && std::isfinite(options.eps), "fp_mamba",
                      "eps must be positive", options.eps);
  return options;
}

MixerOptions mixer_options(const FpMambaOptions& options, int64_t inner) {
  const bool concatenated = options.dependence.q && !options.symmetric;
  return {.kind = options.mixer,
          .channels = inner,
          .parameters = concatenated ? 2 * inner : inner,
          .rank = options.rank,
          .scale = options.scale,
          .norm = options.kronecker_norm,
          .eps = options.eps};
}

template <class T, class... Args>
std::unique_ptr<T> make_if(bool wanted, Args&&... args) {
  return wanted ? std::make_unique<T>(std::forward<Args>(args)...) : nullptr;
}

// The places of signals and weights in the vectors that the solvers pass around. projected holds what
// the mixer, b, c and, if it sees y, lambda have from x; then delta is empty. keep (B, T) is 0
// where the scan's state is dropped.
struct Signals {
  Var x, projected, delta, z, keep;
  Signals(const std::vector<Var>& v) : x(v[0]), projected(v[1]), delta(v[2]), z(v[3]), keep(v[4]) {}
  Tensor kept() const { return keep.defined() ? keep.value() : Tensor(); }
};
struct Weights {
  Var from_y, a, skip, norm_weight, norm_bias, dt, dt_bias;
  Weights(const std::vector<Var>& v)
      : from_y(v[0]),
        a(v[1]),
        skip(v[2]),
        norm_weight(v[3]),
        norm_bias(v[4]),
        dt(v[5]),
        dt_bias(v[6]) {}
};

// Where b begins in p: behind the mixer's numbers and as many zeros as make the length of p a multiple of
// 4, so that rows of p begin where a GPU reads 16 bytes at once.
int64_t directions_of(const Mixer& mixer, const FpMambaOptions& options) {
  const int64_t rest = 2 * options.d_state + (options.dependence.lambda ? options.dt_rank : 0);
  return (mixer.outputs() + rest + 3) / 4 * 4 - rest;
}

// What depends on y_{t-1}.
struct TokenParameters {
  MixerFactors q;
  Var b, c, delta;
  Tensor keep;
};

// What mixer, b, c and, if it sees y, lambda are made of.
Var projections(const Var& y_before, const Signals& s, const Weights& w) {
  return w.from_y.defined() ? add(s.projected, linear(y_before, w.from_y)) : s.projected;
}

// The step sizes before softplus: where they see y, of the last numbers of p.
Var delta_of(const Var& p, const Signals& s, const Weights& w, const FpMambaOptions& options) {
  if (!options.dependence.lambda) return s.delta;
  return linear(slice(p, -1, p.size(-1) - options.dt_rank, p.size(-1)), w.dt);
}

TokenParameters token_parameters(const Var& p, const Signals& s, const Weights& w,
                                 const Mixer& mixer, const FpMambaOptions& options) {
  const int64_t N = options.d_state, first = directions_of(mixer, options);
  const auto normalised = [&](const Var& v) {
    return options.bc_norm ? l2_normalize(v, options.eps) : v;
  };
  return {.q = mixer.factors(slice(p, -1, 0, mixer.outputs())),
          .b = normalised(slice(p, -1, first, first + N)),
          .c = normalised(slice(p, -1, first + N, first + 2 * N)),
          .delta = delta_of(p, s, w, options),
          .keep = s.kept()};
}

// What the solver's sweep over y (B, T, D) reads.
FpMambaSweep sweep_over(const Tensor& y, const Signals& s, const Weights& w,
                        const SweepMixer& mixer, const FpMambaOptions& options,
                        const SolverOptions& solver) {
  return {.x = s.x.data(),
          .projected = s.projected.data(),
          .delta = data_or_null(s.delta),
          .z = data_or_null(s.z),
          .keep = data_or_null(s.keep),
          .from_y = data_or_null(w.from_y),
          .a = w.a.data(),
          .skip = w.skip.data(),
          .delta_bias = w.dt_bias.data(),
          .norm_weight = w.norm_weight.data(),
          .norm_bias = w.norm_bias.data(),
          .previous = nullptr,
          .state = nullptr,
          .y = y.data(),
          .state_out = nullptr,
          .iterations = nullptr,
          .residual = nullptr,
          .record = {},
          .B = y.size(0),
          .T = y.size(1),
          .D = y.size(2),
          .N = options.d_state,
          .P = s.projected.size(-1),
          .mixer = mixer,
          .bc_norm = options.bc_norm,
          .state_wanted = false,
          .eps = options.eps,
          .tolerance = solver.of_a_step(),
          .max_iterations = solver.max_iterations};
}

// Equation 14.
Var channel_mixing(const Mixer& mixer, const MixerFactors& q, const Var& x, const Var& y) {
  return add(mixer.apply(q, sub(x, y)), y);
}

// Equation 14 with b and c, of p's parts: by the ops of a mixer that they know, or by what the mixer says itself.
FpMambaMixResult mixed_by(const Mixer& mixer, FpMambaMixInputs in) {
  if (const auto kind = mixer.sweep()) {
    in.mixer = *kind;
    return fp_mamba_mix(in);
  }
  const Var p =
      in.from_y.defined() ? add(in.projected, shift(in.from_y, in.from_previous)) : in.projected;
  const auto direction = [&](int64_t begin) {
    const Var part = slice(p, -1, begin, begin + in.N);
    return in.bc_norm ? l2_normalize(part, in.eps) : part;
  };
  const MixerFactors q = mixer.factors(slice(p, -1, 0, mixer.outputs()));
  return {channel_mixing(mixer, q, in.x, in.y), direction(in.directions),
          direction(in.directions + in.N)};
}

// Equation 12: v_t and what the scan carries on.
SelectiveScanResult sequence_mixing(const Var& mixed, const TokenParameters& at, const Weights& w,
                                    const Var& scan, const SelectiveScanKnown& known = {}) {
  return selective_scan({.u = mixed,
                         .delta = at.delta,
                         .a = w.a,
                         .b = at.b,
                         .c = at.c,
                         .skip = w.skip,
                         .delta_bias = w.dt_bias,
                         .h0 = scan,
                         .keep = at.keep,
                         .known = known});
}

}  // namespace

FpMamba::FpMamba(Module& parent, std::string name, const Init& init, const FpMambaOptions& options)
    : FixedPointLayer(parent, std::move(name), options.solver),
      options_(resolved(options)),
      inner_(options_.expand * options_.d_model),
      in_proj_(*this, "in_proj", init, options_.d_model, 2 * inner_),
      conv1d_(make_if<CausalConv>(options_.conv_width > 0, *this, "conv1d", init, inner_,
                                  options_.conv_width)),
      x_proj_(*this, "x_proj", init, inner_, options_.dt_rank + 2 * options_.d_state),
      dt_proj_(*this, "dt_proj", init, options_.dt_rank, inner_, {.bias = true}),
      mixer_((options_.make_mixer ? options_.make_mixer : make_mixer)(
          *this, "mixer", init, mixer_options(options_, inner_))),
      bc_y_proj_(make_if<WeightNormLinear>(options_.dependence.b || options_.dependence.c, *this,
                                           "bc_y_proj", init, inner_, 2 * options_.d_state)),
      dt_y_proj_(make_if<WeightNormLinear>(options_.dependence.lambda, *this, "dt_y_proj", init,
                                           inner_, options_.dt_rank)),
      z_y_proj_(make_if<WeightNormLinear>(!options_.glu_in_loop, *this, "z_y_proj", init, inner_,
                                          inner_)),
      a_log_(
          add_parameter("A_log", initial_a_log(init.context, inner_, options_.d_state), Decay::no)),
      skip_(add_parameter("D", full(init.context, Shape{inner_}, 1), Decay::no)),
      out_norm_(*this, "out_norm", init, inner_, options_.eps),
      out_proj_(*this, "out_proj", init, inner_, options_.d_model,
                {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {
  dt_proj_.bias->value = initial_step_bias(init, inner_);
}

Var FpMamba::evaluate(const Var& u, FixedPointState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "fp_mamba",
          "u must be (B, T, d)", u.shape(), options_.d_model);
  const Vars xz = linear_parts(u, beside(u, in_proj_.weight), {inner_, inner_});
  Var x = xz[0];
  const Var z = xz[1];
  if (conv1d_ != nullptr) {
    const Var before = state.convolutions.empty() ? Var() : Var(state.convolutions.front());
    state.convolutions = {conv_state(x, options_.conv_width, before).value()};
    x = silu(conv1d_->forward(x, before));
  }
  const Var previous = state.y.defined() ? Var(state.y) : Var();
  const Projections of = projections_beside(x);
  solved_by_.clear();  // an earlier solve may have thrown
  const Var y = solve(signals_of(x, z, of), weights_beside(x, of), inner_, state);
  solved_by_.clear();
  if (options_.glu_in_loop) return out_proj_.forward(y);
  const Var from_previous = previous.defined() ? linear(previous, of.gate) : Var();
  return out_proj_.forward(fp_mamba_gate(z, linear(y, of.gate), from_previous, y));
}

// All of them from the parameters at once.
FpMamba::Projections FpMamba::projections_beside(const Var& x) {
  const int64_t N = options_.d_state, R = options_.dt_rank, D = inner_;
  const int64_t above_rows = mixer_->above().direction.value.size(0);
  const int64_t below_rows = mixer_->below().direction.value.size(0);
  const int64_t padding = directions_of(*mixer_, options_) - mixer_->outputs();
  const HiddenDependence& sees = options_.dependence;
  constexpr int kNone = -1;

  std::vector<WeightSource> sources;
  const auto add = [&](const WeightSource& source) {
    sources.push_back(source);
    return static_cast<int>(sources.size()) - 1;
  };
  const auto map = [&](WeightNormLinear* of) { return of == nullptr ? kNone : add(of->source(x)); };
  const int above = map(&mixer_->above()), below = map(&mixer_->below());
  const int bias = add({{}, reshape(beside(x, *mixer_->below().bias), {below_rows, 1})});
  const int of_x = add({{}, beside(x, x_proj_.weight)});  // R rows of delta, 2 N of b and c
  const int bc = map(bc_y_proj_.get()), dt = map(dt_y_proj_.get()), gate = map(z_y_proj_.get());

  WeightLayout from_x{D, {{above, above_rows}, {below, below_rows}, {kNone, padding}}};
  from_x.blocks.push_back({of_x, 2 * N, R});
  if (sees.lambda) from_x.blocks.push_back({of_x, R});
  const int64_t without = padding + 2 * N + (sees.lambda ? R : 0);
  std::vector<WeightLayout> made{from_x,
                                 {1, {{kNone, above_rows}, {bias, below_rows}, {kNone, without}}}};
  if (sees.any()) {
    const int64_t column = options_.symmetric ? 0 : D;
    WeightLayout from_y{D,
                        {{sees.q ? above : kNone, above_rows, 0, column},
                         {sees.q ? below : kNone, below_rows, 0, column},
                         {kNone, padding},
                         {sees.b ? bc : kNone, N},
                         {sees.c ? bc : kNone, N, N}}};
    if (sees.lambda) from_y.blocks.push_back({dt, R});
    made.push_back(from_y);
  }
  if (!sees.lambda) made.push_back({D, {{of_x, R}}});
  if (gate != kNone) made.push_back({D, {{gate, D}}});

  const Vars all = assemble_weights(sources, made);
  auto next = all.begin();
  Projections of;
  of.from_x = *next++;
  of.bias = reshape(*next++, Shape{of.from_x.size(0)});
  if (sees.any()) of.from_y = *next++;
  if (!sees.lambda) of.step = *next++;
  if (gate != kNone) of.gate = *next++;
  return of;
}

std::vector<Shape> FpMamba::state_shapes(int64_t B) const {
  std::vector<Shape> shapes{{B, inner_}, {B, inner_, options_.d_state}};
  if (conv1d_ != nullptr) shapes.insert(shapes.begin(), {B, options_.conv_width - 1, inner_});
  return shapes;
}

// Everything that f has from x, once for all iterations.
FixedPointLayer::Vars FpMamba::signals_of(const Var& x, const Var& z, const Projections& of) {
  const Var delta =
      options_.dependence.lambda ? Var() : linear(linear(x, of.step), beside(x, dt_proj_.weight));
  return {x, linear(x, of.from_x, of.bias), delta, options_.glu_in_loop ? z : Var(),
          kept_states(x)};
}

FixedPointLayer::Vars FpMamba::weights_beside(const Var& x, const Projections& of) {
  return {of.from_y,
          affine(exp(beside(x, a_log_)), -1, 0),
          beside(x, skip_),
          beside(x, out_norm_.weight),
          beside(x, out_norm_.bias),
          options_.dependence.lambda ? beside(x, dt_proj_.weight) : Var(),
          beside(x, *dt_proj_.bias)};
}

// Equations 14 and 12 and the norm.
FixedPointLayer::Applied FpMamba::apply(const Var& y, const Var& previous, const Var& scan,
                                        const Vars& signals, const Vars& weights) const {
  const Signals s(signals);
  const Weights w(weights);
  const auto solved = [&](const Var& v) {
    const auto found = std::ranges::find_if(
        solved_by_, [&](const Solved& solved) { return solved.y.data() == v.data(); });
    return found == solved_by_.end() ? Solved{} : *found;
  };
  const auto project = [&](const Var& v) {
    if (!v.defined() || !w.from_y.defined()) return Var();
    const Tensor product = solved(v).product;  // but the last step's
    return product.defined() ? linear_known(v, w.from_y, product) : linear(v, w.from_y);
  };
  const Solved known = solved(y);
  Var p = s.projected, from_y = project(y), from_previous = project(previous);
  if (from_y.defined() && options_.dependence.lambda) {
    p = add(p, shift(from_y, from_previous));
    from_y = from_previous = Var();
  }
  const auto [mixed, b, c] = mixed_by(*mixer_, {.projected = p,
                                                .from_y = from_y,
                                                .from_previous = from_previous,
                                                .x = s.x,
                                                .y = y,
                                                .mixer = {},
                                                .N = options_.d_state,
                                                .directions = directions_of(*mixer_, options_),
                                                .bc_norm = options_.bc_norm,
                                                .eps = options_.eps,
                                                .known = known.mixed});
  const auto [v, carried] = sequence_mixing(
      mixed, {.q = {}, .b = b, .c = c, .delta = delta_of(p, s, w, options_), .keep = s.kept()}, w,
      scan, known.scanned);
  if (y.differentiable())
    return {gated_norm(v, s.z, w.norm_weight, w.norm_bias, options_.eps, known.normed), carried};
  const auto [f, residual] =
      gated_norm_beside(y.value(), v, s.z, w.norm_weight, w.norm_bias, options_.eps);
  return {f, carried, residual};
}

// With g = (exp(step A) . H_{t-1}) c and S = step (b . c) + D the scan of xt = Q x + (I - Q) y gives
//   v = g + S . (Q x) + S . ((I - Q) y).
FixedPointLayer::LocalEquation FpMamba::local_equation(const Var& y, const Var& previous,
                                                       const Var& scan, const Vars& signals,
                                                       const Vars& weights) const {
  const Signals s(signals);
  const Weights w(weights);
  const Var before = shift(y.defined() ? y : s.x, previous);
  const TokenParameters at = token_parameters(projections(before, s, w), s, w, *mixer_, options_);
  const Var step = softplus(add(at.delta, w.dt_bias));
  const Var bc = sum(mul(at.b, at.c), -1);
  Var gain = add(mul(step, reshape(bc, bc.shape().appended(1))), w.skip);
  const Var fed_back = y.defined() ? sub(y, mixer_->apply(at.q, y)) : Var();
  const Var mixed = mixer_->apply(at.q, s.x);
  const auto [v, carried] =
      sequence_mixing(y.defined() ? add(mixed, fed_back) : mixed, at, w, scan);
  Var offset = y.defined() ? sub(v, mul(gain, fed_back)) : v;
  if (s.z.defined()) {
    const Var gate = silu(s.z);
    offset = mul(offset, gate);
    gain = mul(gain, gate);
  }
  return {at.q, offset, gain, w.norm_weight, w.norm_bias, {carried, step, at.b}};
}

// H_t is what that scan carries on and (step . (I - Q) y) b^T.
Var FpMamba::advance(const Var& y, const LocalEquation& at, const Var&, const Vars&,
                     const Vars&) const {
  const Var &carried = at.kept[0], &step = at.kept[1], &b = at.kept[2];
  const auto of_step = [](const Var& x) { return reshape(x, x.shape().without(1)); };
  const Var moved = mul(step, sub(y, mixer_->apply(at.q, y)));
  return add_outer(carried, of_step(moved), of_step(b));
}

bool FpMamba::solve_on_gpu(const Vars& signals, const Vars& weights, const Swept& to,
                           FixedPointState& state) const {
  const Tensor& y = to.y;
  const auto mixer = mixer_->sweep();
  if (!mixer.has_value() || options_.dependence.lambda || y.elements() == 0) return false;
  const Context& context = y.context();
  FpMambaSweep sweep = sweep_over(y, signals, weights, *mixer, options_, solver);
  if (!supported_on_gpu(context, sweep)) return false;
  const Tensor state_out(context, {sweep.B, sweep.D, sweep.N});
  sweep.previous = data_or_null(state.y);
  sweep.state = data_or_null(state.scan);
  sweep.state_out = state_out.data();
  sweep.state_wanted = state.wanted;
  sweep.iterations = to.iterations.data();
  sweep.residual = to.residual.data();
  solved_by_.clear();
  if (to.recorded) sweep.record = record_of(sweep, y, state_out, state.y);
  for (const Solved& solved : solved_by_)  // the product of y, then of what came before it
    if (solved.product.defined()) to.kept.push_back(solved.product);
  launch_on_gpu(context, sweep);
  state.scan = state_out;
  return true;
}

// What the sweep is to leave for f to be recorded at y, in memory that solved_by_ keeps.
FpMambaRecord FpMamba::record_of(const FpMambaSweep& sweep, const Tensor& y,
                                 const Tensor& state_out, const Tensor& previous) const {
  const Context& context = y.context();
  const int64_t B = sweep.B, T = sweep.T, D = sweep.D, N = sweep.N;
  const auto product_of = [&](const Tensor& v) {
    return sweep.from_y == nullptr ? Tensor() : Tensor(context, v.shape().with(-1, sweep.P));
  };
  const FpMambaMixKnown mixed{Tensor(context, y.shape()), Tensor(context, {B, T, N}),
                              Tensor(context, {B, T, N})};
  const SelectiveScanKnown scanned{
      Tensor(context, y.shape()), state_out,
      Tensor(context, selective_scan_checkpoints(context.device(), B, T, D, N))};
  const GatedNormKnown normed{y, Tensor(context, {B, T, 2})};
  solved_by_.push_back({y, product_of(y), mixed, scanned, normed});
  const auto place = [](const Tensor& x) { return x.defined() ? x.data() : nullptr; };
  FpMambaRecord record{.product = place(solved_by_.back().product),
                       .of_previous = nullptr,
                       .mixed = mixed.mixed.data(),
                       .b = mixed.b.data(),
                       .c = mixed.c.data(),
                       .scanned = scanned.y.data(),
                       .checkpoints = scanned.checkpoints.data(),
                       .statistics = normed.statistics.data()};
  if (previous.defined() && sweep.from_y != nullptr) {
    solved_by_.push_back({previous, product_of(previous)});
    record.of_previous = place(solved_by_.back().product);
  }
  return record;
}

bool FpMamba::adjoint_on_gpu(const Vars& signals, const Vars& weights, const SweptBack& to) const {
  const auto mixer = mixer_->sweep();
  if (!mixer.has_value() || options_.dependence.lambda) return false;
  const auto& [y, v, iterations, rule, before, kept] = to;
  const Signals s(signals);
  const Weights w(weights);
  const Context& context = y.context();
  FpMambaAdjoint sweep{.x = s.x.data(),
                       .y = y.data(),
                       .p = nullptr,
                       .dt = nullptr,
                       .mixed = nullptr,
                       .b = nullptr,
                       .z = data_or_null(s.z),
                       .keep = data_or_null(s.keep),
                       .from_y = data_or_null(w.from_y),
                       .a = w.a.data(),
                       .skip = w.skip.data(),
                       .norm_weight = w.norm_weight.data(),
                       .norm_bias = w.norm_bias.data(),
                       .state = data_or_null(before.scan),
                       .v = v.data(),
                       .iterations = iterations.data(),
                       .B = y.size(0),
                       .T = y.size(1),
                       .D = y.size(2),
                       .N = options_.d_state,
                       .P = s.projected.size(-1),
                       .mixer = *mixer,
                       .bc_norm = options_.bc_norm,
                       .eps = options_.eps,
                       .tolerance = rule.tolerance,
                       .max_iterations = rule.max_iterations};
  if (y.elements() == 0 || !supported_on_gpu(context, sweep)) return false;
  const Var previous = before.y.defined() ? Var(before.y) : Var();
  // With the sweep's own products, as f was recorded.
  const Var p = kept.empty()
                    ? projections(shift(y, previous), s, w)
                    : add(s.projected, shift(kept[0], previous.defined() ? Var(kept[1]) : Var()));
  const TokenParameters at = token_parameters(p, s, w, *mixer_, options_);
  const Var dt = softplus(add(s.delta, w.dt_bias)), mixed = channel_mixing(*mixer_, at.q, s.x, y);
  sweep.p = p.data();
  sweep.dt = dt.data();
  sweep.mixed = mixed.data();
  sweep.b = at.b.data();
  launch_on_gpu(context, sweep);
  return true;
}

}  // namespace fprnn
