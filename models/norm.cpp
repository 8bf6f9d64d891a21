#include <fprnn/core/vector.h>
#include <fprnn/models/norm.h>
#include <fprnn/ops/norm.h>

namespace fprnn {

RmsNorm::RmsNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", full(init.context, Shape{width}, 1), Decay::no)),
      eps_(eps) {}

Var RmsNorm::forward(const Var& x) { return rms_norm(x, beside(x, weight_), eps_); }

LayerNorm::LayerNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps)
    : Module(parent, std::move(name)),
      weight(add_parameter("weight", full(init.context, Shape{width}, 1), Decay::no)),
      bias(add_parameter("bias", zeros(init.context, Shape{width}), Decay::no)),
      eps_(eps) {}

Var LayerNorm::forward(const Var& x) {
  return layer_norm(x, beside(x, weight), beside(x, bias), eps_);
}

}  // namespace fprnn
