// Rows of matrices between memory and shared memory, for the products of tile_sums.cuh.
#pragma once

#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/tile_sums.cuh>

namespace fprnn::cuda {

// Asks for `count` rows of `columns` numbers, `stride` apart, and zeros to the end of kRows rows and
// kColumns numbers; all threads together. Rows of `to` are kColumns + 8 apart. Count: int or
// int64_t, whichever leaves a kernel more registers.
template <int kRows, int kColumns, int kThreads, class Count>
__device__ __forceinline__ void fetch_rows(const real* from, int64_t stride, Count count,
                                           int64_t columns, bool quads, real* to) {
  with_quads(quads, [&](auto width) {
    constexpr int kAcross = kColumns / width();
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kAcross; i += kThreads) {
      const int row = i / kAcross, column = i % kAcross * width();
      copy_async<width() * sizeof(real)>(to + row * (kColumns + 8) + column,
                                         from + row * stride + column,
                                         row < count && column < columns);
    }
  });
}

// Two neighbours of a row of `columns` from memory, zeros for those that do not exist, and to memory, as far
// as they exist.
__device__ __forceinline__ Two load_two(const real* row, int column, int64_t columns, bool pairs) {
  if (pairs) return column < columns ? *reinterpret_cast<const Two*>(row + column) : Two{};
  return {
      {column < columns ? row[column] : real(0), column + 1 < columns ? row[column + 1] : real(0)}};
}
__device__ __forceinline__ void store_two(real* row, int column, int64_t columns, bool pairs,
                                          real x, real y) {
  if (pairs) {
    if (column < columns) *reinterpret_cast<Two*>(row + column) = {{x, y}};
  } else {
    if (column < columns) row[column] = x;
    if (column + 1 < columns) row[column + 1] = y;
  }
}

}  // namespace fprnn::cuda
