#include <fprnn/core/vector.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_rnn_sweep.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/scan.h>

#include <cmath>

namespace fprnn {

namespace {

FpRnnOptions resolved(const FpRnnOptions& options) {
  check_sizes("fp_rnn", {options.d_model, options.expand, options.layers});
  check_sizes("fp_rnn", {options.expand * options.d_model});
  if (options.conv_width != 0) check_sizes("fp_rnn", {options.conv_width});
  check(options.solver);
  require<ValueError>(options.eps > 0 && std::isfinite(options.eps), "fp_rnn",
                      "eps must be positive", options.eps);
  return options;
}

// The places in the vectors that the solvers pass around: b . x, Q's projection of x_mixer, lambda; and Q's
// projection of h_{t-1}.
struct Signals {
  Var bx, projected, lambda;
  Signals(const std::vector<Var>& v) : bx(v[0]), projected(v[1]), lambda(v[2]) {}
};

MixerFactors factors(const Mixer& mixer, const Var& h_before, const Signals& s, const Var& from_h) {
  return mixer.factors(from_h.defined() ? add(s.projected, linear(h_before, from_h)) : s.projected);
}

Var one_minus(const Var& x) { return affine(x, -1, 1); }

// h'_t = lambda_t . h'_{t-1} + (1 - lambda_t) . mixed_t.
Var gated_scan(const Var& lambda, const Var& mixed, const Var& before) {
  return scan(lambda, mul(one_minus(lambda), mixed), {.h0 = before});
}

Var last_of(const Var& h) {
  const int64_t T = h.size(1);
  return T == 0 ? Var() : reshape(slice(h, 1, T - 1, T), {h.size(0), h.size(2)});
}

}  // namespace

FpRnn::FpRnn(Module& parent, std::string name, const Init& init, const FpRnnOptions& options)
    : FixedPointLayer(parent, std::move(name), options.solver),
      options_(resolved(options)),
      inner_(options_.expand * options_.d_model),
      input_trans_(*this, "input_trans", init, options_.d_model, 2 * inner_),
      convolutions_(
          options_.conv_width == 0
              ? nullptr
              : new Convolutions{{*this, "conv1d_x", init, inner_, options_.conv_width},
                                 {*this, "conv1d_b", init, inner_, options_.conv_width},
                                 {*this, "conv1d_c", init, 2 * inner_, options_.conv_width},
                                 {*this, "conv1d_mixer", init, inner_, options_.conv_width},
                                 {*this, "conv1d_lambda", init, inner_, options_.conv_width}}),
      lambda_proj_(*this, "lambda_proj", init, inner_, inner_, {.bias = true}),
      b_proj_(*this, "b_proj", init, inner_, inner_),
      c_proj_(*this, "c_proj", init, 2 * inner_, inner_),
      mixer_((options_.make_mixer ? options_.make_mixer : make_mixer)(
          *this, "mixer", init,
          {.kind = options_.mixer,
           .channels = inner_,
           .parameters = options_.hidden_dependence && !options_.symmetric ? 2 * inner_ : inner_,
           .rank = options_.rank,
           .scale = options_.scale,
           .norm = options_.kronecker_norm,
           .eps = options_.eps})),
      output_norm_(*this, "output_norm", init, inner_, options_.eps),
      output_trans_(*this, "output_trans", init, inner_, options_.d_model,
                    {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {}

Var FpRnn::convolved(const Var& x, CausalConv Convolutions::*which, const Tensor& before,
                     std::vector<Tensor>& after) {
  if (convolutions_ == nullptr) return x;
  const Var state = before.defined() ? Var(before) : Var();
  after.push_back(conv_state(x, options_.conv_width, state).value());
  return silu((convolutions_.get()->*which).forward(x, state));
}

Var FpRnn::evaluate(const Var& u, FixedPointState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "fp_rnn", "u must be (B, T, d)",
          u.shape(), options_.d_model);
  require<ValueError>(state_dropout.rate == 0, "fp_rnn",
                      "its scan's state is y itself, which cannot be dropped: rate",
                      state_dropout.rate);
  const Var xz = input_trans_.forward(u);
  const Var raw = slice(xz, -1, 0, inner_), z = slice(xz, -1, inner_, 2 * inner_);
  std::vector<Tensor> before = std::move(state.convolutions), after;
  before.resize(5);
  const Var x = convolved(raw, &Convolutions::x, before[0], after);
  const Var x_mixer = convolved(raw, &Convolutions::mixer, before[1], after);
  const Var x_b = convolved(raw, &Convolutions::b, before[2], after);
  const Var x_lambda = convolved(raw, &Convolutions::lambda, before[3], after);

  const Var bx = mul(silu(b_proj_.forward(x_b)), x),
            lambda = sigmoid(lambda_proj_.forward(x_lambda));
  const Var weight = mixer_->weight(x);
  const bool sees = options_.hidden_dependence;
  const Var from_h = !sees                ? Var()
                     : options_.symmetric ? weight
                                          : slice(weight, 1, inner_, 2 * inner_);
  const Var projected = linear(x_mixer, slice(weight, 1, 0, inner_), mixer_->bias(x));
  const Var previous = state.y.defined() ? Var(state.y) : Var();
  const Var h = solve({bx, projected, lambda}, {from_h}, inner_, state);

  const Var seen = convolutions_ != nullptr ? h : shift(h, previous);
  const Var c =
      silu(c_proj_.forward(convolved(concat({x, seen}, -1), &Convolutions::c, before[4], after)));
  state.convolutions = std::move(after);
  return output_trans_.forward(output_norm_.forward(mul(mul(silu(z), c), h)));
}

FixedPointLayer::Applied FpRnn::apply(const Var& h, const Var& previous, const Var& scan,
                                      const Vars& signals, const Vars& weights) const {
  const Signals s(signals);
  const MixerFactors q = factors(*mixer_, shift(h, previous), s, weights[0]);
  const Var mixed = add(mixer_->apply(q, sub(s.bx, h)), h);
  const Var f = gated_scan(s.lambda, mixed, scan);
  return {f, last_of(f)};
}

std::vector<Shape> FpRnn::state_shapes(int64_t B) const {
  std::vector<Shape> shapes;
  // As evaluate leaves them: of x, the mixer's, b's, lambda's and, twice as wide, c's.
  const int64_t before = options_.conv_width - 1;
  if (convolutions_ != nullptr)
    for (const int64_t width : {inner_, inner_, inner_, inner_, 2 * inner_})
      shapes.push_back({B, before, width});
  shapes.insert(shapes.end(), {{B, inner_}, {B, inner_}});
  return shapes;
}

// h = a + (1 - lambda) . ((I - Q) h) with a = lambda . h'_{t-1} + (1 - lambda) . (Q (b . x)):
// linear.
FixedPointLayer::LocalEquation FpRnn::local_equation(const Var& h, const Var& previous,
                                                     const Var& scan, const Vars& signals,
                                                     const Vars& weights) const {
  const Signals s(signals);
  const MixerFactors q = factors(*mixer_, shift(h.defined() ? h : s.bx, previous), s, weights[0]);
  const Var gain = one_minus(s.lambda), mixed = mixer_->apply(q, s.bx);
  if (!h.defined()) return {q, gated_scan(s.lambda, mixed, scan), gain, {}, {}, {}};
  const Var fed_back = sub(h, mixer_->apply(q, h));
  const Var f = gated_scan(s.lambda, add(mixed, fed_back), scan);
  return {q, sub(f, mul(gain, fed_back)), gain, {}, {}, {}};
}

Var FpRnn::advance(const Var& h, const LocalEquation& at, const Var& scan, const Vars& signals,
                   const Vars&) const {
  const Signals s(signals);
  const Var mixed = add(mixer_->apply(at.q, sub(s.bx, h)), h);
  return last_of(gated_scan(s.lambda, mixed, scan));
}

bool FpRnn::solve_on_gpu(const Vars& signals, const Vars& weights, const Swept& to,
                         FixedPointState& state) const {
  const auto mixer = mixer_->sweep();
  if (!mixer.has_value()) return false;
  const Signals s(signals);
  const Tensor& y = to.y;
  const Context& context = y.context();
  FpRnnSweep sweep{.bx = s.bx.data(),
                   .projected = s.projected.data(),
                   .lambda = s.lambda.data(),
                   .from_y = data_or_null(weights[0]),
                   .previous = data_or_null(state.y),
                   .state = data_or_null(state.scan),
                   .y = y.data(),
                   .state_out = nullptr,
                   .iterations = to.iterations.data(),
                   .residual = to.residual.data(),
                   .B = y.size(0),
                   .T = y.size(1),
                   .D = y.size(2),
                   .P = s.projected.size(-1),
                   .mixer = *mixer,
                   .eps = options_.eps,
                   .tolerance = solver.of_a_step(),
                   .max_iterations = solver.max_iterations};
  if (y.elements() == 0 || !supported_on_gpu(context, sweep)) return false;
  const Tensor state_out(context, {sweep.B, sweep.D});
  sweep.state_out = state_out.data();
  launch_on_gpu(context, sweep);
  state.scan = state_out;
  return true;
}

bool FpRnn::adjoint_on_gpu(const Vars& signals, const Vars& weights, const SweptBack& to) const {
  const auto mixer = mixer_->sweep();
  if (!mixer.has_value()) return false;
  const auto& [y, v, iterations, rule, before, kept] = to;
  const Signals s(signals);
  const Context& context = y.context();
  FpRnnAdjoint sweep{.bx = s.bx.data(),
                     .y = y.data(),
                     .p = nullptr,
                     .lambda = s.lambda.data(),
                     .from_y = data_or_null(weights[0]),
                     .v = v.data(),
                     .iterations = iterations.data(),
                     .B = y.size(0),
                     .T = y.size(1),
                     .D = y.size(2),
                     .P = s.projected.size(-1),
                     .mixer = *mixer,
                     .eps = options_.eps,
                     .tolerance = rule.tolerance,
                     .max_iterations = rule.max_iterations};
  if (y.elements() == 0 || !supported_on_gpu(context, sweep)) return false;
  const Var previous = before.y.defined() ? Var(before.y) : Var();
  const Var p =
      weights[0].defined() ? add(s.projected, linear(shift(y, previous), weights[0])) : s.projected;
  sweep.p = p.data();
  launch_on_gpu(context, sweep);
  return true;
}

}  // namespace fprnn
