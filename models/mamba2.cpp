#include <fprnn/core/vector.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/mamba2.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/ssd_scan.h>

#include <cmath>

namespace fprnn {

namespace {

Mamba2Options checked(const Mamba2Options& of) {
  check_sizes("mamba2", {of.d_model, of.d_state, of.headdim, of.ngroups, of.expand, of.conv_width,
                         of.layers});
  check_sizes("mamba2", {of.expand * of.d_model, of.ngroups * of.d_state});
  heads_of("mamba2", of.expand * of.d_model, of.headdim, of.ngroups);
  const auto finite = [](double limit) { return std::isfinite(static_cast<real>(limit)); };
  require<ValueError>(of.dt_min >= 0 && (of.dt_max == 0 || of.dt_max >= of.dt_min) &&
                          finite(of.dt_min) && finite(of.dt_max),
                      "mamba2", "limits of dt must be 0 <= dt_min <= dt_max, or dt_max 0",
                      of.dt_min, of.dt_max);
  return of;
}

}  // namespace

int64_t heads_of(std::string_view op, int64_t D, int64_t headdim, int64_t ngroups) {
  require<ValueError>(D % headdim == 0, op,
                      "headdim must divide expand times d_model: headdim and the product", headdim,
                      D);
  require<ValueError>(D / headdim % ngroups == 0, op, "ngroups must divide the number of heads",
                      ngroups, D / headdim);
  return D / headdim;
}

Tensor initial_decay(const Init& init, int64_t H) {
  std::vector<real> values = uniform(init.context, Shape{H}, 1, 16, init.rng).to_vector();
  for (real& value : values) value = std::log(value);
  return Tensor(init.context, Shape{H}, values);
}

Mamba2::Mamba2(Module& parent, std::string name, const Init& init, const Mamba2Options& options)
    : StateLayer(parent, std::move(name), "mamba2"),
      options_(checked(options)),
      inner_(options_.expand * options_.d_model),
      heads_(inner_ / options_.headdim),
      convolved_(inner_ + 2 * options_.ngroups * options_.d_state),
      in_proj_(*this, "in_proj", init, options_.d_model, inner_ + convolved_ + heads_),
      conv1d_(*this, "conv1d", init, convolved_, options_.conv_width),
      dt_bias_(add_parameter("dt_bias", initial_step_bias(init, heads_), Decay::no)),
      a_log_(add_parameter("A_log", initial_decay(init, heads_), Decay::no)),
      skip_(add_parameter(
          "D", full(init.context, Shape{options_.channel_skip ? inner_ : heads_}, 1), Decay::no)),
      norm_weight_(
          options_.rmsnorm
              ? &add_parameter("norm.weight", full(init.context, Shape{inner_}, 1), Decay::no)
              : nullptr),
      out_proj_(*this, "out_proj", init, inner_, options_.d_model,
                {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {}

std::vector<Shape> Mamba2::state_shapes(int64_t B) const {
  return {{B, options_.conv_width - 1, convolved_},
          {B, heads_, options_.headdim, options_.d_state}};
}

Var Mamba2::normalised(const Var& x) {
  const Var weight = on_tape_of(x, *norm_weight_);
  const int64_t G = options_.ngroups;
  if (G == 1) return rms_norm(x, weight, options_.eps);
  const Var ones = full(x.context(), Shape{inner_ / G}, 1);
  const Var groups = reshape(x, {x.size(0), x.size(1), G, inner_ / G});
  return mul(reshape(rms_norm(groups, ones, options_.eps), x.shape()), weight);
}

Var Mamba2::gated(const Var& y, const Var& z) {
  if (norm_weight_ == nullptr) return mul(y, silu(z));
  return options_.norm_before_gate ? mul(normalised(y), silu(z)) : normalised(mul(y, silu(z)));
}

Var Mamba2::forward(const Var& u, Mamba2State& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "mamba2", "u must be (B, T, d)",
          u.shape(), options_.d_model);
  const int64_t B = u.size(0), T = u.size(1), H = heads_, P = options_.headdim;
  const int64_t G = options_.ngroups, N = options_.d_state;

  const std::vector<Var> projected =
      linear_parts(u, on_tape_of(u, in_proj_.weight), {inner_, convolved_, H});
  const Var &z = projected[0], &xbc = projected[1], &dt = projected[2];
  const std::vector<Var> mixed =
      split(silu(conv1d_.forward(xbc, state.conv)), -1, {inner_, G * N, G * N});
  const Var skip = on_tape_of(u, skip_);
  SsdScanInputs scan{.x = reshape(mixed[0], {B, T, H, P}),
                     .dt = dt,
                     .a = affine(exp(on_tape_of(u, a_log_)), -1, 0),
                     .b = reshape(mixed[1], {B, T, G, N}),
                     .c = reshape(mixed[2], {B, T, G, N}),
                     .skip = options_.channel_skip ? reshape(skip, {H, P}) : skip,
                     .dt_bias = on_tape_of(u, dt_bias_),
                     .h0 = state.scan,
                     .negative = options_.negative_eigenvalues};
  if (options_.dt_min > 0) scan.dt_min = static_cast<real>(options_.dt_min);
  if (options_.dt_max > 0) scan.dt_max = static_cast<real>(options_.dt_max);
  const auto [y, scanned] = ssd_scan(scan);
  state = {conv_state(xbc, options_.conv_width, state.conv), scanned};
  return out_proj_.forward(gated(reshape(y, {B, T, inner_}), z));
}

ModelKind mamba2_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<Mamba2Options>();
    settings.add("d_state", own->d_state, "States of each channel");
    settings.add("headdim", own->headdim, "Channels of a head; divides expand times d-model");
    settings.add("ngroups", own->ngroups, "Groups of heads, which share B and C");
    settings.add("expand", own->expand, "Channels inside a layer, in units of d-model");
    settings.add("rmsnorm", own->rmsnorm, "Normalise the gated channels");
    settings.add("norm_before_gate", own->norm_before_gate, "Normalise, then gate");
    settings.add("d_has_hdim", own->channel_skip, "A skip of each channel, not of each head");
    settings.add("dt_min", own->dt_min, "The least step size");
    settings.add("dt_max", own->dt_max, "The largest step size; 0: none");
    settings.add("negative_eigenvalues", own->negative_eigenvalues,
                 "Decay factors in (-1, 1) instead of (0, 1)");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      Mamba2Options options = *own;
      options.d_model = place.d_model;
      options.layers = place.layers;
      return std::make_unique<Mamba2>(parent, std::move(name), init, options);
    };
  };
  return {.name = "mamba2",
          .about = "Mamba-2: heads with one decay a step, long sequences by matrix products",
          .declare = declare};
}

}  // namespace fprnn
