#include <fprnn/ops/matmul.h>

namespace fprnn {

Gemm contiguous_product(const Factor& a, const Factor& b, real* c) {
  return {.a = a.data,
          .b = b.data,
          .c = c,
          .M = a.height(),
          .N = b.width(),
          .K = a.width(),
          .lda = a.columns,
          .ldb = b.columns,
          .ldc = b.width(),
          .transpose_a = a.transposed,
          .transpose_b = b.transposed};
}

namespace {

// Of checked ranks. Without a batch b is one matrix and all leading axes of a are rows.
Var multiply(std::string_view op, bool batched, const Var& a, const Var& b, bool ta, bool tb) {
  const int64_t a_rows = batched ? a.size(-2) : a.shape().elements_before(-1);
  const Factor left{a.data(), a_rows, a.size(-1), ta};
  const Factor right{b.data(), b.size(-2), b.size(-1), tb};
  require(left.width() == right.height(), op, "the inner sizes must be equal", a.shape(), b.shape(),
          ta, tb);
  require_together(op, a, b);
  const int64_t M = left.height(), N = right.width();
  const Tensor c(a.context(), (ta ? a.shape().with(-2, M) : a.shape()).with(-1, N));
  if (batched)
    launch(a.context(), BatchedGemm{.a = a.data(),
                                    .b = b.data(),
                                    .c = c.data(),
                                    .G = a.shape().elements_before(-2),
                                    .M = M,
                                    .N = N,
                                    .K = left.width(),
                                    .transpose_a = ta,
                                    .transpose_b = tb});
  else
    launch(a.context(), contiguous_product(left, right, c.data()));
  return record(op, {a, b}, c, [=, a = a.value(), b = b.value()](Backward& back) {
    const auto matrix = [&](const Tensor& x) {
      return batched ? x : x.reshaped(Shape{x.shape().elements_before(-1), x.size(-1)});
    };
    const auto product = [&](const Tensor& x, const Tensor& y, bool tx, bool ty) {
      return multiply(op, batched, x, y, tx, ty).value();
    };
    const Tensor rows = matrix(a), dc = matrix(back.output());
    // C = A B: dA = dC B^T and dB = A^T dC; a transposed factor gets the transpose of that.
    if (back.wants(0)) {
      const Tensor da = ta ? product(b, dc, tb, true) : product(dc, b, false, !tb);
      back.accumulate(0, da.reshaped(a.shape()));
    }
    if (back.wants(1))
      back.accumulate(1, tb ? product(dc, rows, true, ta) : product(rows, dc, !ta, false));
  });
}

}  // namespace

Var matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  require(a.shape().rank() >= 2 && b.shape().rank() == 2, "matmul",
          "a must be (..., M, K) and b (K, N)", a.shape(), b.shape());
  require(!options.transpose_a || a.shape().rank() == 2, "matmul", "a transposed a must be (K, M)",
          a.shape());
  return multiply("matmul", false, a, b, options.transpose_a, options.transpose_b);
}

Var batched_matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  const int rank = a.shape().rank();
  require(rank >= 2 && b.shape().rank() == rank &&
              a.shape().with(-1, 0).with(-2, 0) == b.shape().with(-1, 0).with(-2, 0),
          "batched_matmul", "a and b must have the same leading axes", a.shape(), b.shape());
  return multiply("batched_matmul", true, a, b, options.transpose_a, options.transpose_b);
}

}  // namespace fprnn
