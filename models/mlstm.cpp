#include <fprnn/core/vector.h>
#include <fprnn/models/mlstm.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/mlstm.h>

#include <cmath>

namespace fprnn {

namespace {

MlstmOptions resolved(MlstmOptions options) {
  check_sizes("mlstm", {options.d_model, options.heads, options.qkv_block, options.conv_width,
                        options.layers});
  if (options.inner == 0) {
    const double width = options.proj_factor * static_cast<double>(options.d_model);
    require<ValueError>(width >= 1 && width <= static_cast<double>(kMaxSize), "mlstm",
                        "proj_factor times d_model must be 1 to 2^20", options.proj_factor,
                        options.d_model);
    options.inner = static_cast<int64_t>(std::ceil(width / 64)) * 64;
  }
  check_sizes("mlstm", {options.inner});
  require<ValueError>(options.inner % options.heads == 0, "mlstm",
                      "heads must divide the inner width: heads and width", options.heads,
                      options.inner);
  require<ValueError>(options.inner % options.qkv_block == 0, "mlstm",
                      "qkv_block must divide the inner width: qkv_block and width",
                      options.qkv_block, options.inner);
  require<ValueError>(options.eps >= 0 && options.norm_eps >= 0, "mlstm",
                      "eps must not be negative", options.eps, options.norm_eps);
  return options;
}

Tensor block_weight(const Init& init, const MlstmOptions& options) {
  const int64_t b = options.qkv_block;
  return small_weight(init, Shape{options.inner / b, b, b}, options.d_model);
}

// Gates that know nothing of their inputs yet: between 0.95 and 0.998 is kept, by head.
void start_gates(const Init& init, const MlstmOptions& options, Linear& igate, Linear& fgate) {
  const int64_t H = options.heads;
  std::vector<real> keep(H, 3);
  for (int64_t h = 0; h < H; ++h)
    keep[h] += real(3) * static_cast<real>(h) / static_cast<real>(std::max<int64_t>(1, H - 1));
  for (Linear* gate : {&igate, &fgate})
    gate->weight.value = zeros(init.context, gate->weight.value.shape());
  igate.bias->value = normal(init.context, Shape{H}, 0, real(0.1), init.rng);
  fgate.bias->value = Tensor(init.context, Shape{H}, keep);
}

}  // namespace

Mlstm::Mlstm(Module& parent, std::string name, const Init& init, const MlstmOptions& options)
    : StateLayer(parent, std::move(name), "mlstm"),
      options_(resolved(options)),
      norm_(*this, "xlstm_norm", init, options_.d_model, 1, options_.norm_eps),
      proj_up_(*this, "xlstm.proj_up", init, options_.d_model, 2 * options_.inner,
               {.bias = options_.bias}),
      conv1d_(*this, "xlstm.conv1d.conv", init, options_.inner, options_.conv_width),
      q_proj_(*this, "xlstm.q_proj", block_weight(init, options_), options_.bias),
      k_proj_(*this, "xlstm.k_proj", block_weight(init, options_), options_.bias),
      v_proj_(*this, "xlstm.v_proj", block_weight(init, options_), options_.bias),
      igate_(*this, "xlstm.mlstm_cell.igate", init, 3 * options_.inner, options_.heads,
             {.bias = true}),
      fgate_(*this, "xlstm.mlstm_cell.fgate", init, 3 * options_.inner, options_.heads,
             {.bias = true}),
      out_norm_(*this, "xlstm.mlstm_cell.outnorm", init, options_.inner, options_.heads,
                options_.norm_eps),
      skip_(add_parameter("xlstm.learnable_skip", full(init.context, Shape{options_.inner}, 1),
                          Decay::no)),
      proj_down_(*this, "xlstm.proj_down", init, options_.inner, options_.d_model,
                 {.bias = options_.bias}) {
  proj_up_.weight.value = small_weight(init, proj_up_.weight.value.shape(), options_.d_model);
  proj_down_.weight.value =
      last_weight(init, proj_down_.weight.value.shape(), options_.d_model, options_.layers);
  start_gates(init, options_, igate_, fgate_);
}

std::vector<Shape> Mlstm::state_shapes(int64_t B) const {
  const int64_t H = options_.heads, d = options_.inner / H;
  return {{B, H, d, d}, {B, H, d}, {B, H}, {B, options_.conv_width - 1, options_.inner}};
}

// h of all heads side by side, (B, T, inner), from what the convolution has seen and has not.
Var Mlstm::cell(const Var& convolved, const Var& x, MlstmState& state) {
  const Var q = q_proj_.forward(convolved), k = k_proj_.forward(convolved), v = v_proj_.forward(x);
  const Var all = concat({q, k, v}, -1);
  const Shape heads{x.size(0), x.size(1), options_.heads, options_.inner / options_.heads};
  const auto [h, c, n, m] = mlstm({.q = reshape(q, heads),
                                   .k = reshape(k, heads),
                                   .v = reshape(v, heads),
                                   .igate = igate_.forward(all),
                                   .fgate = fgate_.forward(all),
                                   .c = state.c,
                                   .n = state.n,
                                   .m = state.m,
                                   .eps = options_.eps});
  state.c = c;
  state.n = n;
  state.m = m;
  return reshape(h, x.shape());
}

Var Mlstm::forward(const Var& x, MlstmState& state) {
  require(x.shape().rank() == 3 && x.size(-1) == options_.d_model, "mlstm", "x must be (B, T, d)",
          x.shape(), options_.d_model);
  const int64_t D = options_.inner;
  const Var up = proj_up_.forward(norm_.forward(x));
  const Var x_m = slice(up, -1, 0, D), z = slice(up, -1, D, 2 * D);
  const Var x_c = silu(conv1d_.forward(x_m, state.conv));
  state.conv = conv_state(x_m, options_.conv_width, state.conv);
  const Var h = out_norm_.forward(cell(x_c, x_m, state));
  const Var read = add(h, mul(x_c, on_tape_of(x, skip_)));
  return add(x, proj_down_.forward(mul(read, silu(z))));
}

ModelKind mlstm_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<MlstmOptions>();
    settings.add("heads", own->heads, "Heads, each with a matrix memory");
    settings.add("proj_factor", own->proj_factor,
                 "Channels inside a layer, in units of d-model, rounded up to a multiple of 64");
    settings.add("qkv_block", own->qkv_block, "Channels of a block of the maps to q, k and v");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      MlstmOptions options = *own;
      options.d_model = place.d_model;
      options.layers = place.layers;
      return std::make_unique<Mlstm>(parent, std::move(name), init, options);
    };
  };
  return {
      .name = "mlstm", .about = "The xLSTM's block with a gated matrix memory", .declare = declare};
}

}  // namespace fprnn
