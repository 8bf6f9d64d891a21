#include <fprnn/core/text.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/mamba.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

#include <cmath>

namespace fprnn {

HiddenDependence hidden_dependence_named(std::string_view names) {
  HiddenDependence dependence{false, false, false, false};
  if (names == "none") return dependence;
  for (const std::string& name : split(names, ',')) {
    bool* const sees = name == "q"        ? &dependence.q
                       : name == "b"      ? &dependence.b
                       : name == "c"      ? &dependence.c
                       : name == "lambda" ? &dependence.lambda
                                          : nullptr;
    require<ValueError>(sees != nullptr, "fp_mamba",
                        "hidden dependence is none or some of q,b,c,lambda", names);
    *sees = true;
  }
  return dependence;
}

namespace {

FpMambaOptions resolved(FpMambaOptions options) {
  check_sizes("fp_mamba", {options.d_model, options.d_state, options.expand, options.layers});
  if (options.dt_rank == 0) options.dt_rank = (options.d_model + 15) / 16;
  check_sizes("fp_mamba", {options.dt_rank, options.expand * options.d_model});
  if (options.conv_width != 0) check_sizes("fp_mamba", {options.conv_width});
  require<ValueError>(options.state_keep >= 0 && options.state_keep <= 1, "state_keep",
                      "must be in [0, 1]", options.state_keep);
  check(options.solver);
  require<ValueError>(options.eps > 0 && std::isfinite(options.eps), "fp_mamba",
                      "eps must be positive", options.eps);
  return options;
}

SelectiveOptions cell_options(const FpMambaOptions& options, int64_t inner) {
  return {.channels = inner,
          .states = options.d_state,
          .step_numbers = options.dependence.lambda ? options.dt_rank : 0,
          .bc_norm = options.bc_norm,
          .eps = options.eps};
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
      cell_(cell_options(options_, inner_)),
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

Var FpMamba::output(const Var& u, FixedPointState& state, const Conditions& on) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "fp_mamba",
          "u must be (B, T, d)", u.shape(), options_.d_model);
  const Vars xz = linear_parts(u, on_tape_of(u, in_proj_.weight), {inner_, inner_});
  Var x = xz[0];
  const Var z = xz[1];
  if (conv1d_ != nullptr) {
    const Var before = state.convolutions.empty() ? Var() : Var(state.convolutions.front());
    state.convolutions = {conv_state(x, options_.conv_width, before).value()};
    x = silu(conv1d_->forward(x, before));
  }
  const Var previous = state.y;
  const Projection of = projection(x, on);
  const Var y = solve(inputs_of(x, z, of, on), state, on);
  if (options_.glu_in_loop) return out_proj_.forward(y);
  const Var& gate = of.others.back();
  if (y.size(1) == 1)  // nobody sees the product with y
    return out_proj_.forward(mul(silu(add(z, linear(shift(y, previous), gate))), y));
  const Var projected_previous = previous.defined() ? linear(previous, gate) : Var();
  return out_proj_.forward(fp_mamba_gate(z, linear(y, gate), projected_previous, y));
}

Projection FpMamba::projection(const Var& like) {
  const int64_t N = options_.d_state, R = options_.dt_rank;
  const HiddenDependence& sees = options_.dependence;
  constexpr int kZeros = ProjectionRows::kZeros;
  ProjectionRows rows(*mixer_, like, inner_, sees.q);
  const int of_x = rows.source(x_proj_);  // R rows of delta, N of b, N of c
  const int bc = rows.source(bc_y_proj_.get()), dt = rows.source(dt_y_proj_.get()),
            gate = rows.source(z_y_proj_.get());
  // Unused, so that rows of p begin at a multiple of 16 bytes.
  rows.add({kZeros, (4 - (mixer_->outputs() + cell_.raw_size()) % 4) % 4});
  rows.add({of_x, N, R}, sees.b ? bc : kZeros);
  rows.add({of_x, N, R + N}, sees.c ? bc : kZeros, N);
  if (sees.lambda)
    rows.add({of_x, R}, dt);
  else
    rows.add_other({of_x, R});
  if (gate != kZeros) rows.add_other({gate, inner_});
  return rows.made();
}

std::vector<Shape> FpMamba::convolution_shapes(int64_t B) const {
  if (conv1d_ == nullptr) return {};
  return {{B, options_.conv_width - 1, inner_}};
}

FixedPointInputs FpMamba::inputs_of(const Var& x, const Var& z, const Projection& of,
                                    const Conditions& on) {
  const bool lambda = options_.dependence.lambda;
  const Var delta =
      lambda ? Var() : linear(linear(x, of.others.front()), on_tape_of(x, dt_proj_.weight));
  Tensor mask = on.state_mask;
  if (!mask.defined() && !on.training && options_.state_keep != 1)
    mask = full(x.context(), x.shape().without(-1), static_cast<real>(options_.state_keep));
  require(!mask.defined() || mask.shape() == x.shape().without(-1), "fp_mamba",
          "a state mask must be (B, T)", mask.shape(), x.shape());
  require_together("fp_mamba", x, mask);
  return {
      .x = options_.additive_input ? x : Var(zeros(x.context(), x.shape())),
      .projected = linear(x, of.weight_x, of.bias),
      .gate = options_.glu_in_loop ? z : Var(),
      .weight_y = of.weight_y,
      .norm_weight = on_tape_of(x, out_norm_.weight),
      .norm_bias = on_tape_of(x, out_norm_.bias),
      .signals = {delta, mask},
      .weights = {affine(exp(on_tape_of(x, a_log_)), -1, 0), on_tape_of(x, skip_),
                  on_tape_of(x, *dt_proj_.bias), lambda ? on_tape_of(x, dt_proj_.weight) : Var()}};
}

}  // namespace fprnn
