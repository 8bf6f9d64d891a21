#include <fprnn/core/vector.h>
#include <fprnn/models/delta_net.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

namespace {

constexpr std::string_view kName = "delta_net";

DeltaNetOptions resolved(DeltaNetOptions options) {
  check_sizes(kName, {options.d_model, options.heads, options.householder});
  require<ValueError>(options.head_dim > 0 || options.d_model % options.heads == 0, kName,
                      "d_model must be a multiple of heads where head_dim is not given",
                      options.d_model, options.heads);
  if (options.head_dim == 0) options.head_dim = options.d_model / options.heads;
  if (options.value_heads == 0) options.value_heads = options.heads;
  check_sizes(kName, {options.head_dim, options.value_heads});
  require<ValueError>(options.value_heads % options.heads == 0, kName,
                      "value_heads must be a multiple of heads", options.value_heads,
                      options.heads);
  require<ValueError>(options.conv_width >= 0 && options.conv_width <= kMaxSize, kName,
                      "conv_width must not be negative", options.conv_width);
  require<ValueError>(options.eps >= 0 && options.l2_eps >= 0, kName, "eps must not be negative",
                      options.eps, options.l2_eps);
  return options;
}

int64_t value_channels(const DeltaNetOptions& options) {
  const double channels = options.expand_v * static_cast<double>(options.head_dim);
  require<ValueError>(channels >= 1 && channels <= static_cast<double>(kMaxSize) &&
                          std::abs(channels - std::round(channels)) < 1e-6,
                      kName, "expand_v d_k must be a whole number of channels: expand_v and d_k",
                      options.expand_v, options.head_dim);
  const auto whole = static_cast<int64_t>(std::round(channels));
  check_sizes(kName, {options.householder * options.value_heads});
  check_sizes(kName, {options.householder * options.value_heads * options.head_dim,
                      options.householder * options.value_heads * whole});
  return whole;
}

}  // namespace

Tensor initial_log_rates(const Init& init, int64_t heads) {
  std::vector<real> values = uniform(init.context, Shape{heads}, 0, 16, init.rng).to_vector();
  for (real& value : values) value = std::log(std::max(value, real(1e-4)));
  return Tensor(init.context, Shape{heads}, values);
}

namespace {

// elu(x) + 1 = max(x, 0) + e^min(x, 0).
Var shifted_elu(const Var& x) { return add(relu(x), exp(affine(relu(affine(x, -1, 0)), -1, 0))); }

std::unique_ptr<CausalConv> make_conv(Module& parent, std::string name, const Init& init,
                                      int64_t channels, const DeltaNetOptions& options) {
  return make_if<CausalConv>(options.conv_width > 0, parent, std::move(name), init, channels,
                             options.conv_width, options.conv_bias);
}

}  // namespace

DeltaNet::DeltaNet(Module& parent, std::string name, const Init& init,
                   const DeltaNetOptions& options)
    : StateLayer(parent, std::move(name), kName),
      options_(resolved(options)),
      d_v_(value_channels(options_)),
      unit_(full(init.context, Shape{options_.head_dim},
                 static_cast<real>(1 / std::sqrt(static_cast<double>(options_.head_dim))))),
      q_proj_(*this, "q_proj", init, options_.d_model, options_.heads * options_.head_dim),
      k_proj_(*this, "k_proj", init, options_.d_model,
              options_.householder * options_.heads * options_.head_dim),
      v_proj_(*this, "v_proj", init, options_.d_model,
              options_.householder * options_.value_heads * d_v_),
      b_proj_(make_if<Linear>(options_.beta, *this, "b_proj", init, options_.d_model,
                              options_.householder * options_.value_heads)),
      a_proj_(make_if<Linear>(options_.forget_gate, *this, "a_proj", init, options_.d_model,
                              options_.value_heads)),
      a_log_(options_.forget_gate
                 ? &add_parameter("A_log", initial_log_rates(init, options_.value_heads), Decay::no)
                 : nullptr),
      dt_bias_(
          options_.forget_gate
              ? &add_parameter("dt_bias", initial_step_bias(init, options_.value_heads), Decay::no)
              : nullptr),
      q_conv1d_(make_conv(*this, "q_conv1d", init, q_proj_.weight.value.size(0), options_)),
      k_conv1d_(make_conv(*this, "k_conv1d", init, k_proj_.weight.value.size(0), options_)),
      v_conv1d_(make_conv(*this, "v_conv1d", init, v_proj_.weight.value.size(0), options_)),
      g_proj_(make_if<Linear>(options_.output_gate, *this, "g_proj", init, options_.d_model,
                              options_.value_heads * d_v_)),
      o_norm_(*this, "o_norm", init, d_v_, options_.eps),
      o_proj_(*this, "o_proj", init, options_.value_heads * d_v_, options_.d_model) {}

std::vector<Shape> DeltaNet::state_shapes(int64_t B) const {
  std::vector<Shape> shapes{{B, options_.value_heads, options_.head_dim, d_v_}};
  if (options_.conv_width > 0)
    for (const Linear* projection : {&q_proj_, &k_proj_, &v_proj_})
      shapes.push_back({B, options_.conv_width - 1, projection->weight.value.size(0)});
  return shapes;
}

// conv(W u), or W u.
Var DeltaNet::convolved(Linear& projection, CausalConv* conv, const Var& u, Var& state) {
  const Var rows = projection.forward(u);
  if (conv == nullptr) return rows;
  const Var y = conv->forward(rows, state);
  state = conv_state(rows, options_.conv_width, state);
  return y;
}

// Queries and keys: the activation, then the norm over the last axis of `shape`.
Var DeltaNet::as_key(const Var& x, const Shape& shape) {
  Var active = reshape(x, shape);
  if (options_.activation == KeyActivation::silu) active = silu(active);
  if (options_.activation == KeyActivation::relu) active = relu(active);
  if (options_.activation == KeyActivation::elu) active = shifted_elu(active);
  if (options_.norm == KeyNorm::sum)
    return div(active, reshape(sum(active, -1), shape.with(-1, 1)));
  return rms_norm(active, unit_, options_.l2_eps / static_cast<real>(options_.head_dim));
}

// beta, (B, T, n HV).
Var DeltaNet::write_strength(const Var& u) {
  const real most = options_.negative_eigenvalues ? 2 : 1;
  if (b_proj_ != nullptr) return affine(sigmoid(b_proj_->forward(u)), most, 0);
  return full(u.context(), u.shape().with(-1, options_.householder * options_.value_heads), most);
}

// g, (B, T, HV).
Var DeltaNet::log_forget(const Var& u) {
  if (a_proj_ == nullptr) return {};
  const Var step = softplus(linear(u, on_tape_of(u, a_proj_->weight), on_tape_of(u, *dt_bias_)));
  return mul(step, affine(exp(on_tape_of(u, *a_log_)), -1, 0));
}

Var DeltaNet::forward(const Var& u, DeltaNetState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, kName, "u must be (B, T, d)",
          u.shape(), options_.d_model);
  const int64_t B = u.size(0), T = u.size(1), n = options_.householder;
  const int64_t H = options_.heads, HV = options_.value_heads, K = options_.head_dim;

  const Var q = convolved(q_proj_, q_conv1d_.get(), u, state.q);
  const Var k = convolved(k_proj_, k_conv1d_.get(), u, state.k);
  const Var v = silu(convolved(v_proj_, v_conv1d_.get(), u, state.v));

  const auto [o, memory] =
      delta_rule({.q = as_key(q, {B, T, H, K}),
                  .k = as_key(k, {B, T, n, H, K}),
                  .v = reshape(v, {B, T, n, HV, d_v_}),
                  .beta = reshape(write_strength(u), {B, T, n, HV}),
                  .g = log_forget(u),
                  .state = state.memory,
                  .scale = static_cast<real>(1 / std::sqrt(static_cast<double>(K)))});
  state.memory = memory;

  Var read = reshape(o_norm_.forward(o), {B, T, HV * d_v_});
  if (g_proj_ != nullptr) read = mul(read, silu(g_proj_->forward(u)));
  return o_proj_.forward(read);
}

namespace {

// The settings that a kind has beside those that all have.
enum class Has { nothing, value_heads, product };

LayerMaker declare(Settings& settings, const DeltaNetOptions& defaults, Has has) {
  const auto own = std::make_shared<DeltaNetOptions>(defaults);
  settings.add("heads", own->heads, "Heads of queries and keys");
  settings.add("head_dim", own->head_dim, "Channels of a key; 0: d-model / heads");
  settings.add("expand_v", own->expand_v, "Channels of a value, in units of a key's");
  settings.add("negative_eigenvalues", own->negative_eigenvalues,
               "Eigenvalues of a step in [-1, 1] instead of [0, 1]");
  if (has == Has::value_heads)
    settings.add("value_heads", own->value_heads, "Heads of values, a multiple of heads; 0: heads");
  if (has == Has::product) {
    settings.add("householder", own->householder, "Householder steps a token");
    settings.add("forget_gate", own->forget_gate, "Gated DeltaProduct; else DeltaProduct");
  }
  return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
    DeltaNetOptions options = *own;
    options.d_model = place.d_model;
    return std::make_unique<DeltaNet>(parent, std::move(name), init, options);
  };
}

}  // namespace

ModelKind delta_net_kind() {
  return {.name = "deltanet",
          .about = "A linear memory corrected at its keys by the delta rule",
          .declare = [](Settings& settings) { return declare(settings, {}, Has::nothing); }};
}

ModelKind gated_delta_net_kind() {
  return {.name = "gated-deltanet",
          .about = "DeltaNet whose memory also forgets, with a gate at its output",
          .declare = [](Settings& settings) {
            return declare(settings, {.expand_v = 2, .forget_gate = true, .output_gate = true},
                           Has::value_heads);
          }};
}

ModelKind delta_product_kind() {
  return {.name = "deltaproduct",
          .about = "Gated DeltaNet with a product of several Householder steps a token",
          .declare = [](Settings& settings) {
            return declare(settings,
                           {.expand_v = 2,
                            .householder = 2,
                            .forget_gate = true,
                            .output_gate = true,
                            .negative_eigenvalues = true},
                           Has::product);
          }};
}

}  // namespace fprnn
