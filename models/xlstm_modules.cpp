#include <fprnn/core/vector.h>
#include <fprnn/models/xlstm_modules.h>
#include <fprnn/ops/block_linear.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/norm.h>

#include <cmath>

namespace fprnn {

HeadNorm::HeadNorm(Module& parent, std::string name, const Init& init, int64_t width, int64_t heads,
                   real eps)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", zeros(init.context, Shape{width}), Decay::no)),
      heads_(heads),
      ones_(full(init.context, Shape{width / heads}, 1)),
      zeros_(zeros(init.context, Shape{width / heads})),
      eps_(eps) {}

Var HeadNorm::forward(const Var& x) {
  const Var weight = affine(on_tape_of(x, weight_), 1, 1);
  if (heads_ == 1) return layer_norm(x, weight, zeros_, eps_);
  const Var rows = reshape(x, x.shape().with(-1, heads_).appended(x.size(-1) / heads_));
  return mul(reshape(layer_norm(rows, ones_, zeros_, eps_), x.shape()), weight);
}

BlockLinear::BlockLinear(Module& parent, std::string name, Tensor initial, bool bias)
    : Module(parent, std::move(name)),
      weight_(add_parameter("weight", initial)),
      bias_(bias ? &add_parameter(
                       "bias", zeros(initial.context(), Shape{initial.size(0) * initial.size(1)}),
                       Decay::no)
                 : nullptr) {}

Var BlockLinear::forward(const Var& x) {
  const Var y = block_linear(x, on_tape_of(x, weight_));
  return bias_ != nullptr ? add(y, on_tape_of(x, *bias_)) : y;
}

Tensor small_weight(const Init& init, const Shape& shape, int64_t d_model) {
  const double deviation = std::sqrt(2 / (5 * static_cast<double>(d_model)));
  return normal(init.context, shape, 0, static_cast<real>(deviation), init.rng);
}

Tensor last_weight(const Init& init, const Shape& shape, int64_t d_model, int64_t layers) {
  const double deviation =
      2 / (static_cast<double>(layers) * std::sqrt(static_cast<double>(d_model)));
  return normal(init.context, shape, 0, static_cast<real>(deviation), init.rng);
}

}  // namespace fprnn
