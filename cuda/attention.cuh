// What the kernels of attention share: heads as they read them, what a query sees, and the blocks of
// queries (ops/attention.md, "On a GPU").
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/attention_panels.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/ops/attention.h>

#include <cmath>
#include <limits>

namespace fprnn::cuda {

// Heads as the kernels read them: one after the other, rows of D numbers with zeros behind the d that there
// are, and rows of zeros up to a multiple of kPadding.
inline constexpr int kPadding = 128;
inline int64_t padded(int64_t rows) { return ceil_div(rows, kPadding) * kPadding; }
template <class Mode>
struct HeadPanels {
  const typename Mode::Element *q, *k, *v, *dy;  // (B H, padded rows, D); q times scale log2(e)
  const float2* rows;  // (B H, padded rows): log2 of a row's sum with its maximum, and y . dy
};
// Numbers of x (B, rows, H, d), times a factor, so.
Tensor pack_heads(Cuda cuda, const AttentionForward& args, const real* x, int64_t rows,
                  real factor);

// Sizes of a block: warps with kM tiles of 16 rows each, and so many columns at a time.
template <class Mode, int D>
struct AttentionBlock {
  static constexpr bool kHalf = sizeof(typename Mode::Element) == 2;
  static constexpr int kM = kHalf && D == 64 ? 2 : 1, kWarps = kHalf && D == 128 ? 8 : 4;
  static constexpr int kRows = 16 * kM * kWarps, kThreads = kWarps * kWarp;
  static constexpr int kColumns = kHalf ? 64 : 32, kColumnsBack = kHalf || D == 64 ? 32 : 16;
  static constexpr int kRowBytes = Panel<Mode, D>::kRowBytes;
  static_assert(kPadding % kRows == 0 && kPadding % kColumns == 0 && kColumns % kColumnsBack == 0);
};

// Scores are in powers of two: e^x = 2^(x log2 e). A row's maximum starts at the lowest number, so
// that its distance from a score that is not seen, -infinity, is no NaN.
inline constexpr float kLowest = std::numeric_limits<float>::lowest();

// What a block of a head needs to know of it. Every head has a window: of all keys where it has none.
struct HeadSight {
  int64_t unit, b;  // b H + h
  int h, past, window;
  float slope;

  __device__ __forceinline__ HeadSight(const AttentionForward& args, int64_t unit)
      : unit(unit),
        b(unit / args.H),
        h(static_cast<int>(unit % args.H)),
        past(static_cast<int>(args.S - args.T)),
        window(static_cast<int>(args.S)),
        slope(args.slopes != nullptr ? static_cast<float>(args.slopes[h] * kLog2e) : 0.0f) {
    if (args.windows != nullptr && args.windows[h] > 0) window = ::min(window, args.windows[h]);
  }
  // Where a head's row stands in q and the like, (B, rows, H, d).
  __device__ __forceinline__ int64_t place(const AttentionForward& args, int64_t rows,
                                           int64_t row) const {
    return ((b * rows + row) * args.H + h) * args.d;
  }
};

// Rows of a head's panels, for the kernels.
__device__ __forceinline__ int padded_rows(int rows) {
  return (rows + kPadding - 1) / kPadding * kPadding;
}

// A block of queries of one head and the keys that it meets, kColumns at a time. Shared memory holds
// kPanels panels of the queries' and two stages of keys and values; while one stage is computed with
// the other is on its way.
template <class Mode, int D, int kColumns, int kPanels>
struct QueryBlock {
  using Of = AttentionBlock<Mode, D>;
  using P = Panel<Mode, D>;
  static constexpr int kPanel = kColumns * Of::kRowBytes, kOwnPanel = Of::kRows * Of::kRowBytes;
  static constexpr int kBytes = kPanels * kOwnPanel + 2 * 2 * kPanel;
  static_assert(kBytes <= kLeastBlockBytes);

  HeadSight head;
  uint32_t rows;             // shared memory
  int t, own;                // the block's first query, and the warp's first row
  int begin, end, position;  // keys that the block meets; where the warp's first query stands
  int64_t of_queries, of_keys;

  // Blocks that see most come first.
  __device__ __forceinline__ QueryBlock(const AttentionForward& args, const void* shared,
                                        int blocks)
      : head(args, blockIdx.x / blocks),
        rows(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        t((blocks - 1 - static_cast<int>(blockIdx.x % blocks)) * Of::kRows),
        own(static_cast<int>(threadIdx.x) / kWarp * 16 * Of::kM),
        begin(::max(0, head.past + t - head.window + 1) / kColumns * kColumns),
        end(head.past + ::min(t + Of::kRows, static_cast<int>(args.T))),
        position(head.past + t + own),
        of_queries(head.unit * padded_rows(static_cast<int>(args.T)) + t),
        of_keys(head.unit * padded_rows(static_cast<int>(args.S))) {}

  __device__ __forceinline__ void bring_rows(const typename Mode::Element* of, int panel) const {
    P::template bring<Of::kRows, Of::kThreads>(rows + panel * kOwnPanel, of + of_queries * D);
  }
  __device__ __forceinline__ uint32_t keys(int stage) const {
    return rows + kPanels * kOwnPanel + stage * 2 * kPanel;
  }
  __device__ __forceinline__ void bring(const HeadPanels<Mode>& panels, int s, int stage) const {
    const int64_t from = (of_keys + s) * D;
    P::template bring<kColumns, Of::kThreads>(keys(stage), panels.k + from);
    P::template bring<kColumns, Of::kThreads>(keys(stage) + kPanel, panels.v + from);
    commit_async();
  }
  // Keys from s on: there for all, with the next on their way. All that was done with a stage was done before.
  __device__ __forceinline__ void step(const HeadPanels<Mode>& panels, int s, int stage) const {
    wait_async<0>();
    __syncthreads();
    if (s + kColumns < end) bring(panels, s + kColumns, stage ^ 1);
  }
  // Whether none of the warp's queries sees one of them, or all see all.
  __device__ __forceinline__ bool none_seen(int s) const {
    return s > position + 16 * Of::kM - 1 || s + kColumns <= position - head.window + 1;
  }
  __device__ __forceinline__ bool all_seen(int s) const {
    return s + kColumns - 1 <= position && position + 16 * Of::kM - 1 - s < head.window;
  }
  // From the lane's first query to its first key.
  __device__ __forceinline__ int distance(int s) const {
    return position + lane_of() / 4 - s - lane_of() % 4 * 2;
  }
};

// Takes the slope's part from the scores and makes those -infinity that are not seen. `distance`, query's
// position less key's, is of the lane's first element; it grows along rows where they are queries
// (kSign 1), else along columns. Columns from `columns` on are none.
template <int kSign, int kM, int kN>
__device__ __forceinline__ void place_scores(float (&x)[kM][kN][4], const HeadSight& head,
                                             int distance, int columns, bool whole) {
  if (whole && head.slope == 0) return;
  const float first = static_cast<float>(distance);
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
      unrolled<4>([&](int i) {
        const int column = n * 8 + i % 2, further = kSign * (m * 16 + i / 2 * 8 - column);
        float& score = x[m][n][i];
        if (head.slope != 0) score -= head.slope * (first + static_cast<float>(further));
        const bool seen =
            static_cast<unsigned>(distance + further) < static_cast<unsigned>(head.window) &&
            column < columns;
        if (!whole && !seen) score = -INFINITY;
      });
}

// The warp's rows, each times its factor, to rows `stride` apart of which `count` are left.
template <int kM, int kTiles>
__device__ __forceinline__ void store_rows(const float (&x)[kM][kTiles][4],
                                           const float (&factor)[kM][2], real* to, int count,
                                           int64_t stride, int d) {
  const int g = lane_of() / 4, t = lane_of() % 4;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = m * 16 + half * 8 + g;
      if (row >= count) continue;
      real* const place = to + row * stride;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        const int column = n * 8 + 2 * t;
        const float one = x[m][n][2 * half] * factor[m][half],
                    other = x[m][n][2 * half + 1] * factor[m][half];
        if (column + 1 < d && d % 2 == 0) {
          *reinterpret_cast<float2*>(place + column) = make_float2(one, other);
        } else {
          if (column < d) place[column] = one;
          if (column + 1 < d) place[column + 1] = other;
        }
      }
    }
}

// visit(how products round, D as a constant), for d <= D.
inline constexpr int kWidestHead = 128;
template <class Visit>
void with_attention(Cuda cuda, int64_t d, const Visit& visit) {
  if constexpr (!kDouble) {
    const auto of_width = [&](auto mode) {
      d <= 64 ? visit(mode, Constant<64>()) : visit(mode, Constant<kWidestHead>());
    };
    const MatmulPrecision precision = gpu(cuda).matmul_precision;
    precision == MatmulPrecision::fp32   ? of_width(InFp32())
    : precision == MatmulPrecision::tf32 ? of_width(InTf32())
                                         : of_width(InBf16());
  }
}

// A few queries, whose keys are not packed: at most kFewQueries.
inline constexpr int64_t kFewQueries = 4;
void attend_few(Cuda cuda, const AttentionForward& args);

}  // namespace fprnn::cuda
