// Products of rows, and of matrices of a few rows as a token of the Kronecker mixer needs them. For
// kernel files only.
#pragma once

#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

// Rows [i, i + Rows) of the product below, for the lanes of b and c from `at` on: Rows independent
// sums.
template <int64_t Rows, class Lanes>
FPRNN_INLINE void small_product_rows(const real* a, int64_t row, int64_t column, const real* b,
                                     real* c, int64_t i, int64_t k, int64_t n, int64_t at,
                                     const Lanes& lanes) {
  Vec total[Rows]{};
  for (int64_t j = 0; j < k; ++j) {
    const Vec x = lanes.load(b + j * n + at);
    for (int64_t r = 0; r < Rows; ++r) total[r] += a[(i + r) * row + j * column] * x;
  }
  for (int64_t r = 0; r < Rows; ++r) lanes.store(c + (i + r) * n + at, total[r]);
}

// c (m, n) <- a (m, k) b (k, n); a's element (i, j) is at i * row + j * column, b and c are
// contiguous.
FPRNN_INLINE void small_product(const real* a, int64_t row, int64_t column, const real* b, real* c,
                                int64_t m, int64_t k, int64_t n) {
  for_lanes(n, [&](int64_t at, auto lanes) {
    int64_t i = 0;
    for (; i + 8 <= m; i += 8) small_product_rows<8>(a, row, column, b, c, i, k, n, at, lanes);
    for (; i < m; ++i) small_product_rows<1>(a, row, column, b, c, i, k, n, at, lanes);
  });
}

// to (n, m) <- from (m, n).
FPRNN_INLINE void small_transpose(const real* from, real* to, int64_t m, int64_t n) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) to[j * m + i] = from[i * n + j];
}

// The sum over [0, n) of the products of these rows' elements.
template <class... Rows>
FPRNN_INLINE real inner(int64_t n, const Rows*... rows) {
  Vec total{};
  for_lanes(n, [&](int64_t i, auto lanes) { total += (lanes.load(rows + i) * ...); });
  return sum(total);
}

}  // namespace fprnn::FPRNN_ISA
