#include <fprnn/models/conv.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/layout.h>

#include <cmath>

namespace fprnn {

CausalConv::CausalConv(Module& parent, std::string name, const Init& init, int64_t channels,
                       int64_t width)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", init.uniform({channels, 1, width}, 1 / std::sqrt(width)))),
      bias_(add_parameter("bias", init.uniform({channels}, 1 / std::sqrt(width)), Decay::no)) {}

Var CausalConv::forward(const Var& x, const Var& state) {
  const Var weight = beside(x, weight_);
  const Var taps = reshape(weight, Shape{weight.size(0), weight.size(2)});
  return causal_conv(x, taps, beside(x, bias_), state);
}

}  // namespace fprnn
