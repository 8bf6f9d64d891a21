// A row by a block: each thread holds kOwn of its channels in registers, in packs of W neighbours,
// with zeros beyond the last. Rows have up to kMostOfRow channels. Several sums over a row share
// one barrier.
#pragma once

#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>

namespace fprnn::cuda {

inline constexpr int kOwn = 8;
inline constexpr int kRowThreads = 512;  // at most
inline constexpr int64_t kMostOfRow = int64_t{kOwn} * kRowThreads;

inline int row_threads(int64_t D) {
  return static_cast<int>(std::max<int64_t>(1, ceil_div(D, kOwn * kWarp))) * kWarp;
}

using OwnChannels = real[kOwn];

template <int W>
struct RowPacks {
  // visit(k, d) for the thread's packs that exist: own channels k W and on are the row's from d on.
  template <class Visit>
  static __device__ __forceinline__ void each(int64_t D, const Visit& visit) {
#pragma unroll
    for (int k = 0; k < kOwn / W; ++k) {
      const int d = static_cast<int>(k * blockDim.x + threadIdx.x) * W;
      if (d < D) visit(k, d);
    }
  }
  static __device__ __forceinline__ void load(int64_t D, const real* from, OwnChannels& x) {
    unrolled<kOwn>([&](int k) { x[k] = 0; });
    each(D, [&](int k, int d) {
      const Pack<W> pack = *packs<W>(from + d);
      unrolled<W>([&](int j) { x[k * W + j] = pack.v[j]; });
    });
  }
  static __device__ __forceinline__ void store(int64_t D, const OwnChannels& x, real* to) {
    each(D, [&](int k, int d) { *packs<W>(to + d) = pack_of(x, k); });
  }
  static __device__ __forceinline__ Pack<W> pack_of(const OwnChannels& x, int k) {
    Pack<W> pack;
    unrolled<W>([&](int j) { pack.v[j] = x[k * W + j]; });
    return pack;
  }
};

template <int K>
using RowSpace = real[K][kRowThreads / kWarp];

// x[k] <- all of them in the block combined, the same in every thread; 0 is what nobody has. Before
// `space` is used again, the block must have met elsewhere.
template <int K, class Combine>
__device__ __forceinline__ void reduce_row(real (&x)[K], RowSpace<K>& space,
                                           const Combine& combine) {
  unrolled<K>([&](int k) { x[k] = warp_reduce(x[k], combine); });
  const int warps = blockDim.x / kWarp;
  if (warps == 1) return;
  if (threadIdx.x % kWarp == 0) unrolled<K>([&](int k) { space[k][threadIdx.x / kWarp] = x[k]; });
  __syncthreads();
  unrolled<K>([&](int k) {
    x[k] = 0;
    for (int warp = 0; warp < warps; ++warp) x[k] = combine(x[k], space[k][warp]);
  });
}
template <int K>
__device__ __forceinline__ void sum_row(real (&x)[K], RowSpace<K>& space) {
  reduce_row(x, space, Plus());
}

}  // namespace fprnn::cuda
