#include <fprnn/core/vector.h>
#include <fprnn/models/registry.h>
#include <fprnn/models/slstm.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/slstm.h>

#include <cmath>

namespace fprnn {

namespace {

SlstmOptions resolved(SlstmOptions options) {
  check_sizes("slstm", {options.d_model, options.heads, options.layers});
  require<ValueError>(options.d_model % options.heads == 0, "slstm", "heads must divide d_model",
                      options.heads, options.d_model);
  require<ValueError>(options.conv_width >= 0 && options.conv_width <= kMaxSize, "slstm",
                      "conv_width must not be negative", options.conv_width);
  require<ValueError>(options.norm_eps >= 0, "slstm", "eps must not be negative", options.norm_eps);
  if (options.ffn_width == 0) options.ffn_width = (options.d_model * 13 + 639) / 640 * 64;
  check_sizes("slstm", {options.ffn_width});
  return options;
}

Tensor block_weight(const Init& init, const SlstmOptions& options) {
  const int64_t d = options.d_model / options.heads;
  return small_weight(init, Shape{options.heads, d, d}, options.d_model);
}

Tensor recurrent_weight(const Init& init, const SlstmOptions& options) {
  const int64_t d = options.d_model / options.heads;
  const Shape shape{options.heads, 4 * d, d};
  return options.random_recurrent
             ? init.uniform(shape, 1 / std::sqrt(static_cast<double>(options.d_model)))
             : zeros(init.context, shape);
}

// The channels of a head forget at rates from sigmoid(5), almost never, to sigmoid(-7), at once; the
// later the block, the more of them are slow.
Tensor initial_bias(const Init& init, const SlstmOptions& options) {
  const int64_t D = options.d_model, d = D / options.heads;
  const auto ratio = [](int64_t i, int64_t count) {
    return count > 1 ? static_cast<double>(i) / static_cast<double>(count - 1) : 0;
  };
  const double power = 0.3 + 1.3 * ratio(options.index, options.layers);
  std::vector<real> bias = host_vector<real>({4 * D});
  for (int64_t i = 0; i < D; ++i)
    bias[D + i] = static_cast<real>(5 - 12 * std::pow(ratio(i % d, d), power));
  return Tensor(init.context, Shape{4 * D}, bias);
}

}  // namespace

Slstm::Slstm(Module& parent, std::string name, const Init& init, const SlstmOptions& options)
    : StateLayer(parent, std::move(name), "slstm"),
      options_(resolved(options)),
      norm_(*this, "xlstm_norm", init, options_.d_model, 1, options_.norm_eps),
      conv1d_(options_.conv_width > 0
                  ? std::make_unique<CausalConv>(*this, "xlstm.conv1d.conv", init, options_.d_model,
                                                 options_.conv_width)
                  : nullptr),
      fgate_(*this, "xlstm.fgate", block_weight(init, options_)),
      igate_(*this, "xlstm.igate", block_weight(init, options_)),
      zgate_(*this, "xlstm.zgate", block_weight(init, options_)),
      ogate_(*this, "xlstm.ogate", block_weight(init, options_)),
      recurrent_(
          add_parameter("xlstm.slstm_cell._recurrent_kernel_", recurrent_weight(init, options_))),
      bias_(add_parameter("xlstm.slstm_cell._bias_", initial_bias(init, options_), Decay::no)),
      group_norm_(*this, "xlstm.group_norm", init, options_.d_model, options_.heads,
                  options_.norm_eps) {
  if (!options_.ffn) return;
  const int64_t d = options_.d_model, F = options_.ffn_width;
  ffn_norm_ = std::make_unique<HeadNorm>(*this, "ffn_norm", init, d, 1, options_.norm_eps);
  ffn_up_ = std::make_unique<Linear>(*this, "ffn.proj_up", init, d, 2 * F);
  ffn_down_ = std::make_unique<Linear>(*this, "ffn.proj_down", init, F, d);
  ffn_up_->weight.value = small_weight(init, Shape{2 * F, d}, d);
  ffn_down_->weight.value = last_weight(init, Shape{d, F}, d, options_.layers);
}

std::vector<Shape> Slstm::state_shapes(int64_t B) const {
  std::vector<Shape> shapes(4, Shape{B, options_.d_model});
  if (conv1d_ != nullptr) shapes.push_back({B, options_.conv_width - 1, options_.d_model});
  return shapes;
}

// h of every step, (B, T, d_model).
Var Slstm::cell(const Var& convolved, const Var& y, SlstmState& state) {
  const Var x = concat(
      {fgate_.forward(convolved), igate_.forward(convolved), zgate_.forward(y), ogate_.forward(y)},
      -1);
  const auto [h, c, n, m] = slstm({.x = x,
                                   .weight = on_tape_of(x, recurrent_),
                                   .bias = on_tape_of(x, bias_),
                                   .h = state.h,
                                   .c = state.c,
                                   .n = state.n,
                                   .m = state.m});
  const int64_t B = y.size(0), T = y.size(1);
  if (T > 0)
    state.h = reshape(slice(h, 1, T - 1, T), Shape{B, options_.d_model});
  else if (!state.h.defined())
    state.h = zeros(y.context(), Shape{B, options_.d_model});
  state.c = c;
  state.n = n;
  state.m = m;
  return h;
}

Var Slstm::feed_forward(const Var& x) {
  const int64_t F = options_.ffn_width;
  const Var up = ffn_up_->forward(ffn_norm_->forward(x));
  return ffn_down_->forward(mul(gelu(slice(up, -1, 0, F)), slice(up, -1, F, 2 * F)));
}

Var Slstm::forward(const Var& x, SlstmState& state) {
  require(x.shape().rank() == 3 && x.size(-1) == options_.d_model, "slstm", "x must be (B, T, d)",
          x.shape(), options_.d_model);
  const Var y = norm_.forward(x);
  Var convolved = y;
  if (conv1d_ != nullptr) {
    convolved = silu(conv1d_->forward(y, state.conv));
    state.conv = conv_state(y, options_.conv_width, state.conv);
  }
  const Var out = add(x, group_norm_.forward(cell(convolved, y, state)));
  return options_.ffn ? add(out, feed_forward(out)) : out;
}

ModelKind slstm_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<SlstmOptions>();
    const auto convolves = std::make_shared<bool>(true);
    settings.add("heads", own->heads, "Heads, inside which the gates see the hidden state");
    settings.add("short_conv", *convolves,
                 "A convolution of 4 steps before the input and forget gate");
    settings.add("ffn", own->ffn, "A feed-forward part behind the cell");
    settings.add("ffn_width", own->ffn_width,
                 "Its channels; 0: 1.3 d-model, rounded up to a multiple of 64");
    settings.add("random_recurrent", own->random_recurrent,
                 "Recurrent weights that start at random instead of 0");
    return [own, convolves](Module& parent, std::string name, const Init& init,
                            const LayerPlace& place) {
      SlstmOptions options = *own;
      options.d_model = place.d_model;
      if (!*convolves) options.conv_width = 0;
      options.index = place.index;
      options.layers = place.layers;
      return std::make_unique<Slstm>(parent, std::move(name), init, options);
    };
  };
  return {.name = "slstm",
          .about = "The xLSTM's block with exponential gates that see the hidden state",
          .declare = declare};
}

}  // namespace fprnn
