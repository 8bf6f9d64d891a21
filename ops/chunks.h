// What kernels share that take a sequence in chunks: matrices in memory, their products, and work
// on rows. For kernel files only.
#pragma once

#include <fprnn/core/vector_math.h>
#include <fprnn/ops/matmul.h>

namespace fprnn::FPRNN_ISA {

void gemm(const Gemm& args, real* workspace);

// A matrix in memory, or its transpose.
struct Matrix {
  const real* data;
  int64_t stride;
  bool transposed = false;
};
FPRNN_INLINE Matrix transpose_of(const Matrix& x) { return {x.data, x.stride, !x.transposed}; }

// Working space, in reals, of products none of whose sizes is above `most`.
FPRNN_INLINE int64_t product_space(int64_t most) {
  return minimum(most, 256) * (minimum(most, 4096 / sizeof(real)) + 64);
}

// c (M, N), rows `stride` apart, <- a b, or c + a b. K is their common size.
struct Product {
  real* space;
  FPRNN_INLINE void operator()(const Matrix& a, const Matrix& b, real* c, int64_t stride, int64_t M,
                               int64_t N, int64_t K, bool accumulate) const {
    gemm({.a = a.data,
          .b = b.data,
          .c = c,
          .M = M,
          .N = N,
          .K = K,
          .lda = a.stride,
          .ldb = b.stride,
          .ldc = stride,
          .transpose_a = a.transposed,
          .transpose_b = b.transposed,
          .accumulate = accumulate},
         space);
  }
};

FPRNN_INLINE real exp_of(real x) { return exp(splat(x))[0]; }

FPRNN_INLINE real dot(const real* x, const real* y, int64_t count) {
  Vec total{};
  for_lanes(count, [&](int64_t i, auto lanes)
                       FPRNN_LAMBDA { total += lanes.load(x + i) * lanes.load(y + i); });
  return sum(total);
}
FPRNN_INLINE void scale(real* x, int64_t count, real by) {
  for_lanes(count, [&](int64_t i, auto lanes)
                       FPRNN_LAMBDA { lanes.store(x + i, by * lanes.load(x + i)); });
}
// Rows of x times factor(t), one after the other.
template <class Factor>
FPRNN_INLINE void scale_rows(const Matrix& x, int64_t count, int64_t width, real* to,
                             const Factor& factor) {
  for (int64_t t = 0; t < count; ++t) {
    const real by = factor(t);
    for_lanes(width, [&](int64_t i, auto lanes) FPRNN_LAMBDA {
      lanes.store(to + t * width + i, by * lanes.load(x.data + t * x.stride + i));
    });
  }
}

// Zeros in the vectors after the one that element t of a row of `width` is in.
FPRNN_INLINE void clear_after(real* row, int64_t t, int64_t width) {
  for (int64_t s = t / kLanes * kLanes + kLanes; s < width; s += kLanes) store(row + s, Vec{});
}

}  // namespace fprnn::FPRNN_ISA
