#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <limits>

namespace fprnn {

namespace {

// y of these, which is or becomes the product.
Var record_linear(const Var& x, const Var& weight, const Var& bias, const Tensor& y) {
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  return record(
      "linear", {x, weight, bias}, y, [=, x = x.value(), weight = weight.value()](Backward& back) {
        const Tensor dy = back.output().reshaped(Shape{M, N});
        if (back.wants(0)) {
          const Tensor sum = back.given(0),
                       dx = sum.defined() ? sum : Tensor(x.context(), x.shape());
          launch(x.context(), Gemm{.a = dy.data(),
                                   .b = weight.data(),
                                   .c = dx.data(),
                                   .M = M,
                                   .N = K,
                                   .K = N,
                                   .lda = N,
                                   .ldb = K,
                                   .ldc = K,
                                   .accumulate = sum.defined()});
          if (!sum.defined()) back.give(0, dx);
        }
        if (back.wants(1))
          back.give(1, matmul(dy, x.reshaped(Shape{M, K}), {.transpose_a = true}).value());
        if (back.wants(2)) back.give(2, sum_to(dy, Shape{N}).value());
      });
}

}  // namespace

Var linear_known(const Var& x, const Var& weight, const Tensor& y) {
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1) &&
              y.shape() == x.shape().with(-1, weight.size(0)),
          "linear_known", "x must be (..., K), weight (N, K) and y (..., N)", x.shape(),
          weight.shape(), y.shape());
  require_together("linear_known", x, weight, y);
  return record_linear(x, weight, {}, y);
}

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
  return record_linear(x, weight, bias, y);
}

std::vector<Var> linear_parts(const Var& x, const Var& weight, const std::vector<int64_t>& rows) {
  const std::string_view op = "linear_parts";
  require(x.shape().rank() >= 1 && weight.shape().rank() == 2 && x.size(-1) == weight.size(1), op,
          "x must be (..., K) and weight (N, K)", x.shape(), weight.shape());
  const int64_t N = weight.size(0), K = weight.size(1), M = x.shape().elements_before(-1);
  int64_t left = N;
  bool sound = !rows.empty();
  for (const int64_t count : rows) {
    sound &= count >= 0 && count <= left;
    left -= sound ? count : 0;
  }
  require<ValueError>(sound && left == 0, op, "rows must add up to N; N, left over", N, left);
  require_together(op, x, weight);
  std::vector<Tensor> parts;
  const real* from = weight.data();
  for (const int64_t count : rows) {
    parts.emplace_back(x.context(), x.shape().with(-1, count));
    launch(x.context(), Gemm{.a = x.data(),
                             .b = from,
                             .c = parts.back().data(),
                             .M = M,
                             .N = count,
                             .K = K,
                             .lda = K,
                             .ldb = K,
                             .ldc = count,
                             .transpose_b = true});
    from += count * K;
  }
  return record_all(op, {x, weight}, std::move(parts),
                    [=, x = x.value(), weight = weight.value()](Backward& back) {
                      const Context& context = x.context();
                      const Tensor sum = back.given(0);
                      const Tensor dx = sum.defined()   ? sum
                                        : back.wants(0) ? Tensor(context, x.shape())
                                                        : Tensor();
                      const Tensor dweight =
                          back.wants(1) ? Tensor(context, weight.shape()) : Tensor();
                      int64_t row = 0;
                      for (size_t i = 0; i < rows.size(); ++i) {
                        const Tensor& dy = back.output(static_cast<int>(i));
                        if (back.wants(0))
                          launch(context, Gemm{.a = dy.data(),
                                               .b = weight.data() + row * K,
                                               .c = dx.data(),
                                               .M = M,
                                               .N = K,
                                               .K = rows[i],
                                               .lda = rows[i],
                                               .ldb = K,
                                               .ldc = K,
                                               .accumulate = i > 0 || sum.defined()});
                        if (back.wants(1))
                          launch(context, Gemm{.a = dy.data(),
                                               .b = x.data(),
                                               .c = dweight.data() + row * K,
                                               .M = rows[i],
                                               .N = K,
                                               .K = M,
                                               .lda = rows[i],
                                               .ldb = K,
                                               .ldc = K,
                                               .transpose_a = true});
                        row += rows[i];
                      }
                      if (dx.defined() && !sum.defined()) back.give(0, dx);
                      if (back.wants(1)) back.give(1, dweight);
                    });
}

Var weight_norm(const Var& magnitude, const Var& direction) {
  require(direction.shape().rank() == 2 && magnitude.shape() == direction.shape().with(1, 1),
          "weight_norm", "direction must be (N, K) and magnitude (N, 1)", direction.shape(),
          magnitude.shape());
  require_together("weight_norm", direction, magnitude);
  const Context& context = direction.context();
  WeightNormForward forward{.magnitude = magnitude.data(),
                            .direction = direction.data(),
                            .weight = nullptr,
                            .N = direction.size(0),
                            .K = direction.size(1)};
  if (!supported_on_gpu(context, forward))
    return mul(l2_normalize(direction, std::numeric_limits<real>::min()), magnitude);
  const Tensor weight(context, direction.shape());
  forward.weight = weight.data();
  launch_on_gpu(context, forward);
  return record("weight_norm", {magnitude, direction}, weight,
                [forward, m = magnitude.value(), v = direction.value()](Backward& back) {
                  const Tensor dm(m.context(), m.shape()), dv(v.context(), v.shape());
                  launch_on_gpu(m.context(), WeightNormBackward{.magnitude = m.data(),
                                                                .direction = v.data(),
                                                                .dweight = back.output().data(),
                                                                .dmagnitude = dm.data(),
                                                                .ddirection = dv.data(),
                                                                .N = forward.N,
                                                                .K = forward.K});
                  back.give(0, dm);
                  back.give(1, dv);
                });
}

Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction, const Var& bias) {
  return linear(x, weight_norm(magnitude, direction), bias);
}

}  // namespace fprnn
