#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <limits>

namespace fprnn {

Var linear(const Var& x, const Var& weight, const Var& bias) {
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1),
          "linear", "x must be (..., K) and weight (N, K)", x.shape(), weight.shape());
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  require(!bias.defined() || bias.shape() == Shape{N}, "linear", "bias must be (N)", bias.shape(),
          weight.shape());
  require_together("linear", x, weight, bias);
  const Tensor y(x.context(), x.shape().with(-1, N));
  launch(x.context(), Gemm{.a = x.data(),
                           .b = weight.data(),
                           .bias = bias.defined() ? bias.data() : nullptr,
                           .c = y.data(),
                           .M = M,
                           .N = N,
                           .K = K,
                           .lda = K,
                           .ldb = K,
                           .ldc = N,
                           .transpose_b = true});
  return record(
      "linear", {x, weight, bias}, y, [=, x = x.value(), weight = weight.value()](Backward& back) {
        const Tensor dy = back.output().reshaped(Shape{M, N});
        if (back.wants(0)) back.give(0, matmul(dy, weight).value().reshaped(x.shape()));
        if (back.wants(1))
          back.give(1, matmul(dy, x.reshaped(Shape{M, K}), {.transpose_a = true}).value());
        if (back.wants(2)) back.give(2, sum_to(dy, Shape{N}).value());
      });
}

Var weight_norm(const Var& magnitude, const Var& direction) {
  require(direction.shape().rank() == 2 && magnitude.shape() == direction.shape().with(1, 1),
          "weight_norm", "direction must be (N, K) and magnitude (N, 1)", direction.shape(),
          magnitude.shape());
  return mul(l2_normalize(direction, std::numeric_limits<real>::min()), magnitude);
}

Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction, const Var& bias) {
  return linear(x, weight_norm(magnitude, direction), bias);
}

}  // namespace fprnn
