// One token of a fixed-point layer in one warp: lane l holds the channels l, l + 32, ... of each vector in
// registers, C of them, with zeros beyond the last. Forward and gradient of FP-Mamba's directions b and
// c, as functions of the numbers `p` that are projected from x_t and y_{t-1}.
#pragma once

#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn::cuda {

__device__ __forceinline__ int lane_of() { return threadIdx.x % kWarp; }

// x[k] <- value(d) for the lane's channels d.
template <int C, class Value>
__device__ __forceinline__ void for_channels(int64_t D, real (&x)[C], const Value& value) {
#pragma unroll
  for (int k = 0; k < C; ++k) {
    const int64_t d = lane_of() + k * kWarp;
    x[k] = d < D ? value(d) : real(0);
  }
}
// visit(k, d) for the lane's channels.
template <int C, class Visit>
__device__ __forceinline__ void each_channel(int64_t D, const Visit& visit) {
#pragma unroll
  for (int k = 0; k < C; ++k) {
    const int64_t d = lane_of() + k * kWarp;
    if (d < D) visit(k, d);
  }
}

template <int C>
__device__ __forceinline__ real dot(const real (&x)[C], const real (&y)[C]) {
  real total = 0;
#pragma unroll
  for (int k = 0; k < C; ++k) total += x[k] * y[k];
  return warp_sum(total);
}
// y <- y + factor x.
template <int C>
__device__ __forceinline__ void add_multiple(real (&y)[C], real factor, const real (&x)[C]) {
#pragma unroll
  for (int k = 0; k < C; ++k) y[k] += factor * x[k];
}

// 1 / max(length, eps).
__device__ __forceinline__ real inverse_length(real squares, real eps) {
  const real length = square_root(squares);
  return 1 / (length > eps ? length : eps);
}
// What of the pull towards n the gradient of n = x / max(|x|, eps) has: none where eps was larger.
__device__ __forceinline__ real normal_part(real inverse, real eps, real dot_with_n) {
  return inverse * eps < 1 ? dot_with_n : real(0);
}

// b and c of N numbers in shared memory, normalised if bc_norm says so.
struct Directions {
  real *b, *c;
  real b_inverse = 1, c_inverse = 1;
  real product;  // b . c

  // p(j) for j from 0 on: b, then c. `shared` holds 2 N.
  template <class P>
  __device__ Directions(int64_t N, bool bc_norm, real eps, const P& p, real* shared)
      : b(shared), c(shared + N) {
    real b_squares = 0, c_squares = 0;
    for (int64_t n = lane_of(); n < N; n += kWarp) {
      b[n] = p(n);
      c[n] = p(N + n);
      b_squares += b[n] * b[n];
      c_squares += c[n] * c[n];
    }
    if (bc_norm) {
      b_inverse = inverse_length(warp_sum(b_squares), eps);
      c_inverse = inverse_length(warp_sum(c_squares), eps);
    }
    product = 0;
    for (int64_t n = lane_of(); n < N; n += kWarp) {
      b[n] *= b_inverse;
      c[n] *= c_inverse;
      product += b[n] * c[n];
    }
    product = warp_sum(product);
    __syncwarp();
  }

  // db and dc (N) in shared memory, complete: give(j, dp_j), counted as p is.
  template <class Give>
  __device__ void gradient(int64_t N, bool bc_norm, real eps, const real* db, const real* dc,
                           const Give& give) const {
    real b_along = 0, c_along = 0;
    for (int64_t n = lane_of(); n < N; n += kWarp) {
      b_along += b[n] * db[n];
      c_along += c[n] * dc[n];
    }
    b_along = bc_norm ? normal_part(b_inverse, eps, warp_sum(b_along)) : 0;
    c_along = bc_norm ? normal_part(c_inverse, eps, warp_sum(c_along)) : 0;
    for (int64_t n = lane_of(); n < N; n += kWarp) {
      give(n, b_inverse * (db[n] - b_along * b[n]));
      give(N + n, c_inverse * (dc[n] - c_along * c[n]));
    }
  }
};

// Neighbouring states of a channel, which move together: N is a multiple of their number.
__device__ __forceinline__ Quad load_states(const real* from) {
  return *reinterpret_cast<const Quad*>(from);
}
__device__ __forceinline__ void store_states(real* to, const Quad& x) {
  *reinterpret_cast<Quad*>(to) = x;
}

// Whether a warp's share of shared memory holds b and c, and states come in quads.
template <class Sweep>
bool states_fit(const Sweep& in) {
  constexpr int64_t kMostStates = 256;
  return in.N <= kMostStates && in.N % Quad::kCount == 0 && quads_aligned(in.a, in.state);
}

}  // namespace fprnn::cuda
