#include "my_layer.h"

#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

#include "leaky_relu.h"

namespace extending {

using namespace fprnn;

MyLayer::MyLayer(Module& parent, std::string name, const Init& init, const MyLayerOptions& options)
    : FixedPointLayer(parent, std::move(name), options.solver),
      options_(options),
      mixer_(*this, "mixer", init,
             {.channels = options.d_model,
              .parameters = 2 * options.d_model,  // u_t and y_{t-1}
              .scale = options.scale}),
      cell_(options.d_model),
      x_(*this, "x", init, options.d_model, options.d_model),
      decay_(*this, "decay", init, options.d_model, 2 * options.d_model, {.bias = true}),
      share_u_(*this, "share_u", init, options.d_model, options.d_model, {.bias = true}),
      share_y_(*this, "share_y", init, options.d_model, options.d_model),
      out_(*this, "out", init, options.d_model, options.d_model) {
  check(options.solver);
}

Var MyLayer::output(const Var& u, FixedPointState& state, const Conditions& on) {
  const int64_t D = options_.d_model;
  require(u.shape().rank() == 3 && u.size(-1) == D, "my_layer", "u must be (B, T, d)", u.shape(),
          D);
  require<ValueError>(!on.state_mask.defined(), "my_layer", "its cell cannot forget a state");
  // p: first the mixer's numbers, last the cell's.
  ProjectionRows rows(mixer_, u, D, true);
  const int share_u = rows.source(share_u_);
  rows.add({share_u, D}, rows.source(share_y_));
  const Projection of = rows.made();
  const Var y = solve({.x = leaky_relu(x_.forward(u), options_.leak),
                       .projected = linear(u, of.weight_x, of.bias),
                       .weight_y = of.weight_y,
                       .signals = {sigmoid(decay_.forward(u))}},
                      state, on);
  return out_.forward(y);
}

ModelKind my_layer_kind() {
  struct Own {
    double block_scale = 1, leak = 0.1;
  };
  const auto declare = [](Settings& settings) -> LayerMaker {
    const auto own = std::make_shared<Own>();
    settings.add("block_scale", own->block_scale, "Factor of I - Q, 0 to 1");
    settings.add("leak", own->leak, "Slope of the leaky ReLU below 0");
    return [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
      return std::make_unique<MyLayer>(parent, std::move(name), init,
                                       MyLayerOptions{.d_model = place.d_model,
                                                      .scale = static_cast<real>(own->block_scale),
                                                      .leak = static_cast<real>(own->leak),
                                                      .solver = place.solver});
    };
  };
  return {.name = "my-layer",
          .about = "Two leaky integrators a channel, with pairs of channels mixed in the loop",
          .declare = declare,
          .solver = true,
          .cpu_only = true};  // leaky_relu is
}

}  // namespace extending
