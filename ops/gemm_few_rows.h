// The product of few rows with a transposed matrix, C <- op(A) B^T, for kernel files. Packing B costs
// a write and a read of all of it, which few rows do not repay: here squares of B are transposed in
// registers and used at once. An element is the same chain of multiply-adds as in a tile
// (ops/gemm_kernel.cpp), so its bits do not depend on which of the two makes it.
#pragma once

#include <fprnn/core/simd.h>
#include <fprnn/ops/matmul.h>

namespace fprnn::FPRNN_ISA {

// The rows of a matrix, ld apart, that some squares have; beyond count the last one stands again.
template <int64_t squares>
struct SquareRows {
  const real* at[squares * kLanes];
  FPRNN_INLINE SquareRows(const real* from, int64_t ld, int64_t count) {
    for (int64_t i = 0; i < squares * kLanes; ++i) at[i] = from + minimum(i, count - 1) * ld;
  }
};

inline constexpr int64_t kFewRows = 8;

FPRNN_INLINE bool has_few_rows(const Gemm& args) {
  return args.M <= kFewRows && args.K >= kLanes && args.transpose_b && !args.transpose_a;
}

// The columns of C from j on that lanes says, at most kLanes, or two such vectors of them.
template <int64_t rows, int64_t vectors, class Lanes>
FPRNN_INLINE void multiply_columns(const Gemm& args, int64_t j, Lanes lanes) {
  const SquareRows<vectors> b(args.b + j * args.ldb, args.ldb, args.N - j);
  Vec sum[rows][vectors];
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int64_t v = 0, at = j; v < vectors; ++v, at += kLanes)
      sum[i][v] = args.accumulate ? lanes.load(args.c + i * args.ldc + at)
                  : args.bias     ? lanes.load(args.bias + at)
                                  : Vec{};
  // The steps of k that a square has, but the first `done`.
  const auto add_square = [&](int64_t k, int64_t done) FPRNN_LAMBDA {
#pragma GCC unroll 16
    for (int64_t s = 0; s < kLanes; s += kGroup) {
      Vec x[vectors][kGroup];
#pragma GCC unroll 2
      for (int64_t v = 0; v < vectors; ++v) load_columns(b.at + v * kLanes, k + s, x[v]);
#pragma GCC unroll 4
      for (int64_t g = 0; g < kGroup; ++g) {
        if (s + g < done) continue;
#pragma GCC unroll 8
        for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
          for (int64_t v = 0; v < vectors; ++v)
            sum[i][v] = sum[i][v] + args.a[i * args.lda + k + s + g] * x[v][g];
      }
    }
#pragma GCC unroll 32
    for (int64_t i = 0; i < vectors * kLanes; ++i)  // what the next columns will read
      __builtin_prefetch(b.at[i] + vectors * kLanes * args.ldb + k, 0, 2);
  };
  int64_t k = 0;
  for (; k + kLanes <= args.K; k += kLanes) add_square(k, 0);
  if (k < args.K) add_square(args.K - kLanes, k + kLanes - args.K);
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int64_t v = 0, at = j; v < vectors; ++v, at += kLanes)
      lanes.store(args.c + i * args.ldc + at, sum[i][v]);
}

template <int64_t rows>
void multiply_rows_at_once(const Gemm& args) {
  // A chain of sums waits for itself, two have more to do. But lines of more than 16 rows, which
  // lie a power of 2 apart, drive each other out of the cache, and registers are few.
  constexpr int64_t kVectors = kLanes < 16 && rows <= 2 ? 2 : 1;
  int64_t j = 0;
  for (; j + kVectors * kLanes <= args.N; j += kVectors * kLanes)
    multiply_columns<rows, kVectors>(args, j, Full{});
  for_lanes(args.N - j,
            [&](int64_t i, auto lanes) { multiply_columns<rows, 1>(args, j + i, lanes); });
}

// Picks the loop compiled for this number of rows.
template <int64_t most = kFewRows>
FPRNN_INLINE void multiply_few_rows(const Gemm& args) {
  if (args.M == most)
    multiply_rows_at_once<most>(args);
  else if constexpr (most > 1)
    multiply_few_rows<most - 1>(args);
}

}  // namespace fprnn::FPRNN_ISA
