#include <fprnn/ops/matmul.h>

namespace fprnn {

namespace {

// The rows and columns of op(X), for X whose last two axes are (rows, columns).
struct Sides {
  int64_t rows, columns;
};
Sides sides(int64_t rows, int64_t columns, bool transposed) {
  return transposed ? Sides{columns, rows} : Sides{rows, columns};
}

// x (..., K) as a matrix of rows.
int64_t rows_of(const Tensor& x) { return x.shape().elements_before(-1); }

}  // namespace

Var matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  const bool ta = options.transpose_a, tb = options.transpose_b;
  require(a.shape().rank() >= 2 && b.shape().rank() == 2, "matmul",
          "a must be (..., M, K) and b (K, N)", a.shape(), b.shape());
  require(!ta || a.shape().rank() == 2, "matmul", "a transposed a must be (K, M)", a.shape());
  const Sides left = sides(rows_of(a.value()), a.size(-1), ta),
              right = sides(b.size(0), b.size(1), tb);
  const int64_t M = left.rows, K = left.columns, N = right.columns;
  require(K == right.rows, "matmul", "the inner sizes must be equal", a.shape(), b.shape(), ta, tb);
  const Shape shape = ta ? Shape{M, N} : a.shape().with(-1, N);
  require_together("matmul", a, b);
  const Tensor c(a.context(), shape);
  launch(a.context(), Gemm{.a = a.data(),
                           .b = b.data(),
                           .c = c.data(),
                           .M = M,
                           .N = N,
                           .K = K,
                           .lda = a.size(-1),
                           .ldb = b.size(1),
                           .ldc = N,
                           .transpose_a = ta,
                           .transpose_b = tb});
  return record("matmul", {a, b}, c, [=, a = a.value(), b = b.value()](Backward& back) {
    const Tensor dc = back.output().reshaped(Shape{M, N});
    const Tensor rows = a.reshaped(Shape{rows_of(a), a.size(-1)});
    // C = A B: dA = dC B^T and dB = A^T dC; a transposed factor gets the transpose of that.
    if (back.wants(0)) {
      const Tensor da =
          ta ? matmul(b, dc, {tb, true}).value() : matmul(dc, b, {false, !tb}).value();
      back.give(0, da.reshaped(a.shape()));
    }
    if (back.wants(1))
      back.give(1,
                tb ? matmul(dc, rows, {true, ta}).value() : matmul(rows, dc, {!ta, false}).value());
  });
}

Var batched_matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  const bool ta = options.transpose_a, tb = options.transpose_b;
  const int rank = a.shape().rank();
  require(rank >= 2 && b.shape().rank() == rank &&
              a.shape().with(-1, 0).with(-2, 0) == b.shape().with(-1, 0).with(-2, 0),
          "batched_matmul", "a and b must have the same leading axes", a.shape(), b.shape());
  const Sides left = sides(a.size(-2), a.size(-1), ta), right = sides(b.size(-2), b.size(-1), tb);
  const int64_t M = left.rows, K = left.columns, N = right.columns;
  require(K == right.rows, "batched_matmul", "the inner sizes must be equal", a.shape(), b.shape(),
          ta, tb);
  require_together("batched_matmul", a, b);
  const Tensor c(a.context(), a.shape().with(-2, M).with(-1, N));
  launch(a.context(), BatchedGemm{.a = a.data(),
                                  .b = b.data(),
                                  .c = c.data(),
                                  .G = a.shape().elements_before(-2),
                                  .M = M,
                                  .N = N,
                                  .K = K,
                                  .transpose_a = ta,
                                  .transpose_b = tb});
  return record("batched_matmul", {a, b}, c, [=, a = a.value(), b = b.value()](Backward& back) {
    const Tensor& dc = back.output();
    if (back.wants(0))
      back.give(
          0,
          (ta ? batched_matmul(b, dc, {tb, true}) : batched_matmul(dc, b, {false, !tb})).value());
    if (back.wants(1))
      back.give(
          1,
          (tb ? batched_matmul(dc, a, {true, ta}) : batched_matmul(a, dc, {!ta, false})).value());
  });
}

}  // namespace fprnn
