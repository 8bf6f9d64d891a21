#include <fprnn/core/vector.h>
#include <fprnn/models/mamba.h>
#include <fprnn/models/registry.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/selective_scan.h>

#include <cmath>

namespace fprnn {

namespace {

MambaOptions resolved(MambaOptions options) {
  check_sizes("mamba", {options.d_model, options.d_state, options.expand, options.conv_width,
                        options.layers});
  if (options.dt_rank == 0) options.dt_rank = (options.d_model + 15) / 16;
  check_sizes("mamba", {options.dt_rank, options.expand * options.d_model});
  return options;
}

}  // namespace

Tensor initial_a_log(const Context& context, int64_t D, int64_t N) {
  std::vector<real> values = host_vector<real>({D, N});
  for (int64_t i = 0; i < D * N; ++i) values[i] = std::log(static_cast<real>(i % N + 1));
  return Tensor(context, {D, N}, values);
}

Tensor initial_step_bias(const Init& init, int64_t D) {
  std::vector<real> bias =
      uniform(init.context, Shape{D}, std::log(real(0.001)), std::log(real(0.1)), init.rng)
          .to_vector();
  for (real& value : bias) {
    const double step = std::max(std::exp(static_cast<double>(value)), 1e-4);
    value = static_cast<real>(step + std::log(-std::expm1(-step)));
  }
  return Tensor(init.context, Shape{D}, bias);
}

Mamba::Mamba(Module& parent, std::string name, const Init& init, const MambaOptions& options)
    : StateLayer(parent, std::move(name), "mamba"),
      options_(resolved(options)),
      inner_(options_.expand * options_.d_model),
      in_proj_(*this, "in_proj", init, options_.d_model, 2 * inner_),
      conv1d_(*this, "conv1d", init, inner_, options_.conv_width),
      x_proj_(*this, "x_proj", init, inner_, options_.dt_rank + 2 * options_.d_state),
      dt_proj_(*this, "dt_proj", init, options_.dt_rank, inner_, {.bias = true}),
      a_log_(
          add_parameter("A_log", initial_a_log(init.context, inner_, options_.d_state), Decay::no)),
      skip_(add_parameter("D", full(init.context, Shape{inner_}, 1), Decay::no)),
      out_proj_(*this, "out_proj", init, inner_, options_.d_model,
                {.shrink = std::sqrt(static_cast<double>(options_.layers))}) {
  dt_proj_.bias->value = initial_step_bias(init, inner_);
}

std::vector<Shape> Mamba::state_shapes(int64_t B) const {
  return {{B, options_.conv_width - 1, inner_}, {B, inner_, options_.d_state}};
}

Var Mamba::forward(const Var& u, MambaState& state) {
  require(u.shape().rank() == 3 && u.size(-1) == options_.d_model, "mamba", "u must be (B, T, d)",
          u.shape(), options_.d_model);
  const int64_t R = options_.dt_rank, N = options_.d_state;

  const Var xz = in_proj_.forward(u);
  const Var projected = slice(xz, -1, 0, inner_), z = slice(xz, -1, inner_, 2 * inner_);
  const Var x = silu(conv1d_.forward(projected, state.conv));

  const Var parameters = x_proj_.forward(x);
  const Var delta = slice(parameters, -1, 0, R);
  const auto [y, scanned] = selective_scan({.u = x,
                                            .delta = linear(delta, on_tape_of(x, dt_proj_.weight)),
                                            .a = affine(exp(on_tape_of(x, a_log_)), -1, 0),
                                            .b = slice(parameters, -1, R, R + N),
                                            .c = slice(parameters, -1, R + N, R + 2 * N),
                                            .skip = on_tape_of(x, skip_),
                                            .delta_bias = on_tape_of(x, *dt_proj_.bias),
                                            .h0 = state.scan,
                                            .negative = options_.negative_eigenvalues});
  state = {conv_state(projected, options_.conv_width, state.conv), scanned};
  return out_proj_.forward(mul(y, silu(z)));
}

ModelKind mamba_kind() {
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<MambaOptions>();
    settings.add("d_state", own->d_state, "States of each channel");
    settings.add("expand", own->expand, "Channels inside a layer, in units of d-model");
    settings.add("negative_eigenvalues", own->negative_eigenvalues,
                 "Decay factors in (-1, 1) instead of (0, 1)");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      MambaOptions options = *own;
      options.d_model = place.d_model;
      options.layers = place.layers;
      return std::make_unique<Mamba>(parent, std::move(name), init, options);
    };
  };
  return {.name = "mamba", .about = "The selective diagonal scan, the rival", .declare = declare};
}

}  // namespace fprnn
