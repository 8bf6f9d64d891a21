// Products of matrices of a few rows, for kernel files: what a token of the Kronecker mixer needs.
#pragma once

#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

// c (m, n) <- a (m, k) b (k, n); a's element (i, j) is at i * row + j * column, b and c are
// contiguous.
FPRNN_INLINE void small_product(const real* a, int64_t row, int64_t column, const real* b, real* c,
                                int64_t m, int64_t k, int64_t n) {
  for_lanes(n, [&](int64_t at, auto lanes) {
    for (int64_t i = 0; i < m; ++i) {
      Vec total{};
      for (int64_t j = 0; j < k; ++j) total += a[i * row + j * column] * lanes.load(b + j * n + at);
      lanes.store(c + i * n + at, total);
    }
  });
}

// to (n, m) <- from (m, n).
FPRNN_INLINE void small_transpose(const real* from, real* to, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) to[j * m + i] = from[i * n + j];
}

FPRNN_INLINE real small_dot(const real* a, const real* b, int64_t n) {
  Vec total{};
  for_lanes(n, [&](int64_t i, auto lanes) { total += lanes.load(a + i) * lanes.load(b + i); });
  return sum(total);
}

}  // namespace fprnn::FPRNN_ISA
