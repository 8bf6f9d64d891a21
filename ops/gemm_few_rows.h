// The product of few rows with a transposed matrix, C <- op(A) B^T, for kernel files. Packing B costs
// a write and a read of all of it, which few rows do not repay: here squares of B are transposed in
// registers and used at once. An element is the same chain of multiply-adds as in a tile
// (ops/gemm_kernel.cpp), so its bits do not depend on which of the two makes it.
#pragma once

#include <fprnn/core/simd.h>
#include <fprnn/ops/matmul.h>

namespace fprnn::FPRNN_ISA {

// The rows of a matrix, ld apart, that a square has; beyond count the last one stands again.
struct SquareRows {
  const real* at[kLanes];
  FPRNN_INLINE SquareRows(const real* from, int64_t ld, int64_t count) {
    for (int64_t i = 0; i < kLanes; ++i) at[i] = from + minimum(i, count - 1) * ld;
  }
};

inline constexpr int64_t kFewRows = 8;

FPRNN_INLINE bool has_few_rows(const Gemm& args) {
  return args.M <= kFewRows && args.K >= kLanes && args.transpose_b && !args.transpose_a;
}

// The columns of C from j on that lanes says, at most kLanes.
template <int64_t rows, class Lanes>
FPRNN_INLINE void multiply_columns(const Gemm& args, int64_t j, Lanes lanes) {
  const SquareRows b(args.b + j * args.ldb, args.ldb, minimum(kLanes, args.N - j));
  Vec sum[rows];
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i)
    sum[i] = args.accumulate ? lanes.load(args.c + i * args.ldc + j)
             : args.bias     ? lanes.load(args.bias + j)
                             : Vec{};
  // All of a square's steps of k but the first `done`.
  const auto add_square = [&](int64_t k, int64_t done) FPRNN_LAMBDA {
    Vec x[kLanes];
    load_transposed(b.at, k, x);
#pragma GCC unroll 16
    for (int64_t s = 0; s < kLanes; ++s) {
      __builtin_prefetch(b.at[s] + kLanes * args.ldb + k, 0, 2);  // the next columns' square
      if (s < done) continue;
#pragma GCC unroll 8
      for (int64_t i = 0; i < rows; ++i) sum[i] = sum[i] + args.a[i * args.lda + k + s] * x[s];
    }
  };
  int64_t k = 0;
  for (; k + kLanes <= args.K; k += kLanes) add_square(k, 0);
  if (k < args.K) add_square(args.K - kLanes, k + kLanes - args.K);
#pragma GCC unroll 8
  for (int64_t i = 0; i < rows; ++i) lanes.store(args.c + i * args.ldc + j, sum[i]);
}

// Picks the loop compiled for this number of rows.
template <int64_t most = kFewRows>
FPRNN_INLINE void multiply_few_rows(const Gemm& args) {
  if (args.M == most)
    for_lanes(args.N, [&](int64_t j, auto lanes) { multiply_columns<most>(args, j, lanes); });
  else if constexpr (most > 1)
    multiply_few_rows<most - 1>(args);
}

}  // namespace fprnn::FPRNN_ISA
