// Sums and maxima over a warp and over a block, in an order that depends on the size alone.
#pragma once

#include <cuda_runtime.h>
#include <fprnn/core/real.h>

#include <cstdint>

namespace fprnn::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
__device__ __forceinline__ int lane_of() { return static_cast<int>(threadIdx.x) % kWarp; }

// combine over groups of Width neighbouring lanes (a power of two up to 32); every lane has the
// result.
template <int Width = kWarp, class T, class Combine>
__device__ __forceinline__ T warp_reduce(T x, const Combine& combine) {
#pragma unroll
  for (int distance = Width / 2; distance > 0; distance /= 2)
    x = combine(x, __shfl_xor_sync(kAllLanes, x, distance));
  return x;
}

struct Plus {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
// The larger; NaN if either is.
struct Larger {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return larger_or_nan(a, b);
  }
};

// The same of numbers that are not negative: the order of such floats, with NaN behind them, is that of
// their bits.
struct LargerSize {
  __device__ __forceinline__ float operator()(float a, float b) const {
    return __uint_as_float(::max(__float_as_uint(a), __float_as_uint(b)));
  }
  __device__ __forceinline__ double operator()(double a, double b) const { return Larger()(a, b); }
};
template <int Width = kWarp, class T>
__device__ __forceinline__ T warp_sum(T x) {
  return warp_reduce<Width>(x, Plus());
}
template <int Width = kWarp, class T>
__device__ __forceinline__ T warp_max(T x) {
  return warp_reduce<Width>(x, Larger());
}
// Of numbers that are not negative.
__device__ __forceinline__ float warp_largest(float x) {
  return __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(x)));
}
__device__ __forceinline__ double warp_largest(double x) { return warp_max(x); }

// Over all threads of a block of whole warps; every thread has the result. `shared` holds 32 Ts and may be
// used again at once. For max, x must not be negative (or NaN).
template <class T, class Combine>
__device__ __forceinline__ T block_reduce(T x, T* shared, const Combine& combine) {
  x = warp_reduce(x, combine);
  const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (warps == 1) return x;
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < warps ? shared[lane] : T(0);
  return warp_reduce(x, combine);
}
template <class T>
__device__ __forceinline__ T block_sum(T x, T* shared) {
  return block_reduce(x, shared, Plus());
}
template <class T>
__device__ __forceinline__ T block_max(T x, T* shared) {
  return block_reduce(x, shared, Larger());
}

}  // namespace fprnn::cuda
