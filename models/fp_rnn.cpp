#include <fprnn/models/fp_rnn.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

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
      cell_(inner_),
      output_norm_(*this, "output_norm", init, inner_, options_.eps),
      output_trans_(*this, "output_trans", init, inner_, options_.d_model,
                    {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {}

Var FpRnn::convolved(const Var& x, CausalConv Convolutions::*which, const Tensor& before,
                     std::vector<Tensor>& after) {
  if (convolutions_ == nullptr) return x;
  after.push_back(conv_state(x, options_.conv_width, before).value());
  return silu((convolutions_.get()->*which).forward(x, before));
}

Var FpRnn::output(const Var& u, FixedPointState& state, const Conditions& on) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "fp_rnn", "u must be (B, T, d)",
          u.shape(), options_.d_model);
  require<ValueError>(!on.state_mask.defined(), "fp_rnn",
                      "its cell's state is y itself, which no step can forget");
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
  const Projection of = projection(x, on);
  const Var previous = state.y;
  const Var h = solve({.x = bx,
                       .projected = linear(x_mixer, of.weight_x, of.bias),
                       .weight_y = of.weight_y,
                       .signals = {lambda}},
                      state, on);

  const Var seen = convolutions_ != nullptr ? h : shift(h, previous);
  const Var c =
      silu(c_proj_.forward(convolved(concat({x, seen}, -1), &Convolutions::c, before[4], after)));
  state.convolutions = std::move(after);
  return output_trans_.forward(output_norm_.forward(mul(mul(silu(z), c), h)));
}

Projection FpRnn::projection(const Var& like) {
  return ProjectionRows(*mixer_, like, inner_, options_.hidden_dependence).made();
}

// As output leaves them: of x, the mixer's, b's, lambda's and, twice as wide, c's.
std::vector<Shape> FpRnn::convolution_shapes(int64_t B) const {
  std::vector<Shape> shapes;
  if (convolutions_ != nullptr)
    for (const int64_t width : {inner_, inner_, inner_, inner_, 2 * inner_})
      shapes.push_back({B, options_.conv_width - 1, width});
  return shapes;
}

}  // namespace fprnn
