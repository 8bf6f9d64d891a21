// A warp's products of matrices in shared memory by tensor cores. Rows there are 4 or 8 reals more than a
// multiple of 32 apart (or of 16 where they have 16), so that the lanes of a load meet other banks.
#pragma once

#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/cuda/tile.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

// A float as tensor cores take it: two numbers of 11 bits (HighLow), or one that is rounded to them, half away
// from zero. Adding to a NaN's bits could make a number of it.
template <bool kExact>
struct Part {
  uint32_t high, low = 0;
  Part() = default;
  __device__ __forceinline__ explicit Part(real value) {
    const float x = static_cast<float>(value);
    if constexpr (kExact) {
      const HighLow parts(x);
      high = parts.high;
      low = parts.low;
    } else {
      high = __float_as_uint(x) + (x == x ? 0x1000u : 0u);
    }
  }
};
template <bool kExact>
__device__ __forceinline__ void multiply_parts(float (&c)[4], const Part<kExact> (&a)[4],
                                               const Part<kExact> (&b)[2]) {
  if constexpr (kExact) {
    multiply_tiles(c, a[0].high, a[1].high, a[2].high, a[3].high, b[0].low, b[1].low);
    multiply_tiles(c, a[0].low, a[1].low, a[2].low, a[3].low, b[0].high, b[1].high);
  }
  multiply_tiles(c, a[0].high, a[1].high, a[2].high, a[3].high, b[0].high, b[1].high);
}

// Factors of a product: row i of a, or column i of b, and two of the eight numbers of a step that are summed
// over, the same two of both factors: lane 4 g + t has 2 t and 2 t + 1 where they are `kPaired`,
// which one load brings, else t and t + 4. `tile` is a constant, i the place within it.
using Two = Pack<2>;

// (i, k) is at[i stride + k].
template <bool kPaired>
struct Along {
  const real* at;
  int stride;
  __device__ __forceinline__ Two get(int tile, int i, int step) const {
    const real* row = at + (tile + i) * stride + step * 8;
    const int t = lane_of() % 4;
    if constexpr (kPaired) return packs<2>(row)[t];
    return {{row[t], row[t + 4]}};
  }
};
// (i, k) is at[k stride + i].
struct Down {
  const real* at;
  int stride;
  __device__ __forceinline__ Two get(int tile, int i, int step) const {
    const real* column = at + (step * 8 + lane_of() % 4) * stride + tile + i;
    return {{column[0], column[4 * stride]}};
  }
};
// The same times weights[k].
struct WeightedDown {
  Down of;
  const real* weights;
  __device__ __forceinline__ Two get(int tile, int i, int step) const {
    const Two x = of.get(tile, i, step);
    const real* weight = weights + step * 8 + lane_of() % 4;
    return {{x.v[0] * weight[0], x.v[1] * weight[4]}};
  }
};
// Columns of one, and from column kSplit on of another.
template <int kSplit, class First, class Second>
struct Beside {
  First first;
  Second second;
  __device__ __forceinline__ Two get(int tile, int i, int step) const {
    return tile < kSplit ? first.get(tile, i, step) : second.get(tile - kSplit, i, step);
  }
};

// c += a b over steps `from` to `to`, each of eight numbers. c has M by N tiles of 16 by 8: of tile (m, n) lane
// 4 g + t has rows g and g + 8 and columns 2 t and 2 t + 1 (each_pair).
template <bool kExact, int M, int N, class A, class B>
__device__ __forceinline__ void add_product(float (&c)[M][N][4], int from, int to, const A& a,
                                            const B& b) {
  const int g = lane_of() / 4;
#pragma unroll 2
  for (int step = from; step < to; ++step) {
    Part<kExact> x[M][4];
    unrolled<M>([&](int m) {
      unrolled<2>([&](int half) {
        const Two pair = a.get(16 * m, g + 8 * half, step);
        x[m][half] = Part<kExact>(pair.v[0]);
        x[m][half + 2] = Part<kExact>(pair.v[1]);
      });
    });
    unrolled<N>([&](int n) {
      const Two pair = b.get(8 * n, g, step);
      const Part<kExact> y[2] = {Part<kExact>(pair.v[0]), Part<kExact>(pair.v[1])};
      unrolled<M>([&](int m) { multiply_parts<kExact>(c[m][n], x[m], y); });
    });
  }
}

// visit(m, n, half, row, column) for the lane's pairs of neighbours c[m][n][2 half] and the next.
template <int M, int N, class Visit>
__device__ __forceinline__ void each_pair(const Visit& visit) {
  const int g = lane_of() / 4, t = lane_of() % 4;
  unrolled<M>([&](int m) {
    unrolled<N>([&](int n) {
      unrolled<2>([&](int half) { visit(m, n, half, 16 * m + 8 * half + g, 8 * n + 2 * t); });
    });
  });
}

}  // namespace fprnn::cuda
