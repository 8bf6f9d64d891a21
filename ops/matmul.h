// Matrix products. Legend of ops/: B batch, T time, D channels, N state size, r mixer rank, M, N, K
// the sizes of a product, G the number of products in a batch.
//
// Every element of a product is one chain of K multiply-adds in the order of k, whatever the
// blocking: it depends on its row of A and its column of B alone, not on M, its position or the
// threads.
// Cost: 2 M N K flops. Backward keeps both factors and is two more products.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

struct MatmulOptions {
  bool transpose_a = false;  // use the transpose of a's last two axes
  bool transpose_b = false;  // likewise of b's
};

// a (..., M, K) times b (K, N) -> (..., M, N), b shared by all leading axes. With transpose_a, a is
// (K, M) and has no further axes. ShapeError: ranks or K do not fit.
Var matmul(const Var& a, const Var& b, const MatmulOptions& options = {});

// a (..., M, K) times b (..., K, N), the same leading axes: many small products.
Var batched_matmul(const Var& a, const Var& b, const MatmulOptions& options = {});

// C <- op(A) op(B) (+ bias) or C <- C + op(A) op(B); rows of a stored matrix are ld apart.
struct Gemm {
  const real* a;               // (M, K); (K, M) with transpose_a
  const real* b;               // (K, N); (N, K) with transpose_b
  const real* bias = nullptr;  // (N) or null
  real* c;                     // (M, N)
  int64_t M, N, K;
  int64_t lda, ldb, ldc;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // start from C instead of from bias or 0
};

// op(X) of a contiguous matrix X (rows, columns), as a factor.
struct Factor {
  const real* data;
  int64_t rows, columns;
  bool transposed = false;  // op(X) is X^T
  // The sizes of op(X).
  int64_t height() const { return transposed ? columns : rows; }
  int64_t width() const { return transposed ? rows : columns; }
};
// Their product, C (a.height(), b.width()) contiguous too.
Gemm contiguous_product(const Factor& a, const Factor& b, real* c);

// G products of contiguous matrices, one after the other in memory.
struct BatchedGemm {
  const real* a;  // (G, M, K); (G, K, M) with transpose_a
  const real* b;  // (G, K, N); (G, N, K) with transpose_b
  real* c;        // (G, M, N)
  int64_t G, M, N, K;
  bool transpose_a = false;
  bool transpose_b = false;
};

void run(Cpu, const Gemm&);
void run(Cpu, const BatchedGemm&);
void run(Cuda, const Gemm&);
void run(Cuda, const BatchedGemm&);

}  // namespace fprnn
