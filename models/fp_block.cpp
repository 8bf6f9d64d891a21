#include <fprnn/core/vector.h>
#include <fprnn/models/fp_block.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

#include <cmath>

namespace fprnn {

namespace {

FpBlockOptions checked(const FpBlockOptions& options, std::string_view op) {
  check_sizes(op, {options.d_model, options.expand, options.layers});
  check_sizes(op, {options.expand * options.d_model});
  if (options.conv_width != 0) check_sizes(op, {options.conv_width});
  check(options.solver);
  require<ValueError>(options.eps > 0 && std::isfinite(options.eps), op, "eps must be positive",
                      options.eps);
  require<ValueError>(!options.dependence.lambda, op,
                      "q, b and c may see y_{t-1}, the decay may not", options.dependence.lambda);
  return options;
}

}  // namespace

FpBlock::FpBlock(Module& parent, std::string name, const Init& init, const FpBlockOptions& options,
                 const Of& of)
    : FixedPointLayer(parent, std::move(name), options.solver),
      options_(checked(options, of.op)),
      of_(of),
      inner_(options_.expand * options_.d_model),
      convolved_(inner_ + 2 * of_.directions),
      in_proj_(*this, "in_proj", init, options_.d_model, inner_ + convolved_ + of_.scalars),
      conv1d_(make_if<CausalConv>(options_.conv_width > 0, *this, "conv1d", init, convolved_,
                                  options_.conv_width)),
      mixer_((options_.make_mixer ? options_.make_mixer : make_mixer)(
          *this, "mixer", init, mixer_options(options_, inner_))),
      bc_y_proj_(make_if<WeightNormLinear>(options_.dependence.b || options_.dependence.c, *this,
                                           of_.y_proj, init, inner_, 2 * of_.directions)),
      z_y_proj_(make_if<WeightNormLinear>(!options_.glu_in_loop, *this, "z_y_proj", init, inner_,
                                          inner_)),
      norm_weight_(add_parameter("norm.weight", full(init.context, Shape{inner_}, 1), Decay::no)),
      out_proj_(*this, "out_proj", init, inner_, options_.d_model,
                {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {}

Projection FpBlock::projection(const Var& like) {
  const HiddenDependence& sees = options_.dependence;
  constexpr int kZeros = ProjectionRows::kZeros;
  ProjectionRows rows(*mixer_, like, inner_, sees.q);
  const int bc = rows.source(bc_y_proj_.get()), gate = rows.source(z_y_proj_.get());
  // Unused, so that rows of p begin at a multiple of 16 bytes.
  const int64_t unused = (4 - (mixer_->outputs() + 2 * of_.directions) % 4) % 4;
  rows.add({kZeros, unused});
  rows.add({kZeros, of_.directions}, sees.b ? bc : kZeros);
  rows.add({kZeros, of_.directions}, sees.c ? bc : kZeros, of_.directions);
  if (gate != kZeros) rows.add_other({gate, inner_});
  Projection made = rows.made();
  made.weight_x = slice(made.weight_x, 0, 0, mixer_->outputs() + unused);
  made.bias = slice(made.bias, 0, 0, mixer_->outputs() + unused);
  return made;
}

Var FpBlock::output(const Var& u, FixedPointState& state, const Conditions& on) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, of_.op, "u must be (B, T, d)",
          u.shape(), options_.d_model);
  require<ValueError>(!on.state_mask.defined(), of_.op, "no step of it can forget its state");
  const Vars parts =
      linear_parts(u, on_tape_of(u, in_proj_.weight), {inner_, convolved_, of_.scalars});
  const Var& z = parts[0];
  Var convolved = parts[1];
  if (conv1d_ != nullptr) {
    const Var before = state.convolutions.empty() ? Var() : Var(state.convolutions.front());
    state.convolutions = {conv_state(convolved, options_.conv_width, before).value()};
    convolved = silu(conv1d_->forward(convolved, before));
  }
  const Vars xbc = split(convolved, -1, {inner_, 2 * of_.directions});
  const Var previous = state.y;
  const Projection of = projection(xbc[0], on);
  const Var y = solve({.x = xbc[0],
                       .projected = concat({linear(xbc[0], of.weight_x, of.bias), xbc[1]}, -1),
                       .gate = z,
                       .weight_y = of.weight_y,
                       .norm_weight = on_tape_of(u, norm_weight_),
                       .signals = signals(parts[2]),
                       .weights = weights(u)},
                      state, on);
  if (options_.glu_in_loop) return out_proj_.forward(y);
  const Var& gate = of.others.back();
  const Var projected_previous = previous.defined() ? linear(previous, gate) : Var();
  return out_proj_.forward(fp_mamba_gate(z, linear(y, gate), projected_previous, y));
}

std::vector<Shape> FpBlock::convolution_shapes(int64_t B) const {
  if (conv1d_ == nullptr) return {};
  return {{B, options_.conv_width - 1, convolved_}};
}

}  // namespace fprnn
