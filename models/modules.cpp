#include <fprnn/core/vector.h>
#include <fprnn/models/modules.h>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <cmath>

namespace fprnn {

namespace {

Tensor initial_weight(const Init& init, int64_t inputs, int64_t outputs, double shrink) {
  require<ValueError>(inputs >= 1 && outputs >= 1 && shrink > 0, "linear",
                      "sizes must be at least 1 and shrink positive", inputs, outputs, shrink);
  return init.uniform({outputs, inputs}, 1 / std::sqrt(static_cast<double>(inputs)) / shrink);
}

// |row| of each row, (rows, 1).
Tensor row_lengths(const Tensor& x) {
  std::vector<real> lengths = sum(square(x), 1).value().to_vector();
  for (real& length : lengths) length = std::sqrt(length);
  return Tensor(x.context(), Shape{x.size(0), 1}, lengths);
}

}  // namespace

Linear::Linear(Module& parent, std::string name, const Init& init, int64_t inputs, int64_t outputs,
               const LinearOptions& options)
    : Module(parent, std::move(name)),
      weight(add_parameter("weight", initial_weight(init, inputs, outputs, options.shrink))),
      bias(options.bias ? &add_parameter("bias", zeros(init.context, Shape{outputs}), Decay::no)
                        : nullptr) {}

Var Linear::forward(const Var& x) {
  return linear(x, on_tape_of(x, weight), bias != nullptr ? on_tape_of(x, *bias) : Var());
}

WeightNormLinear::WeightNormLinear(Module& parent, std::string name, const Init& init,
                                   int64_t inputs, int64_t outputs, const LinearOptions& options)
    : Module(parent, std::move(name)),
      direction(add_parameter("parametrizations.weight.original1",
                              initial_weight(init, inputs, outputs, options.shrink))),
      magnitude(add_parameter("parametrizations.weight.original0", row_lengths(direction.value))),
      bias(options.bias ? &add_parameter("bias", zeros(init.context, Shape{outputs}), Decay::no)
                        : nullptr) {}

Var WeightNormLinear::forward(const Var& x) {
  return weight_norm_linear(x, on_tape_of(x, magnitude), on_tape_of(x, direction),
                            bias != nullptr ? on_tape_of(x, *bias) : Var());
}

WeightSource WeightNormLinear::source(const Var& like) const {
  return {on_tape_of(like, magnitude), on_tape_of(like, direction)};
}

RmsNorm::RmsNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", full(init.context, Shape{width}, 1), Decay::no)),
      eps_(eps) {}

Var RmsNorm::forward(const Var& x) { return rms_norm(x, on_tape_of(x, weight_), eps_); }

LayerNorm::LayerNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps)
    : Module(parent, std::move(name)),
      weight(add_parameter("weight", full(init.context, Shape{width}, 1), Decay::no)),
      bias(add_parameter("bias", zeros(init.context, Shape{width}), Decay::no)),
      eps_(eps) {}

Var LayerNorm::forward(const Var& x) {
  return layer_norm(x, on_tape_of(x, weight), on_tape_of(x, bias), eps_);
}

CausalConv::CausalConv(Module& parent, std::string name, const Init& init, int64_t channels,
                       int64_t width, bool bias)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", init.uniform({channels, 1, width}, 1 / std::sqrt(width)))),
      bias_(bias ? &add_parameter("bias", init.uniform({channels}, 1 / std::sqrt(width)), Decay::no)
                 : nullptr) {}

Var CausalConv::forward(const Var& x, const Var& state) {
  const Var weight = on_tape_of(x, weight_);
  const Var taps = reshape(weight, Shape{weight.size(0), weight.size(2)});
  return causal_conv(x, taps, bias_ != nullptr ? on_tape_of(x, *bias_) : Var(), state);
}

Embedding::Embedding(Module& parent, std::string name, const Init& init, int64_t vocabulary,
                     int64_t width)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight",
                            normal(init.context, {vocabulary, width}, 0, real(0.02), init.rng))) {}

Var Embedding::forward(Tape& tape, const IntTensor& tokens) {
  return embedding(tape.leaf(weight_), tokens);
}

Var Embedding::logits(const Var& x) { return linear(x, on_tape_of(x, weight_)); }

}  // namespace fprnn
