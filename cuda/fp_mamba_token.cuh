// One token of a fixed-point layer by a team (cuda/team.cuh), whose threads hold C channels of each
// vector in registers, with zeros beyond the last: FP-Mamba's directions b and c, and their
// gradient, as functions of the projections p of x_t and y_{t-1}.
#pragma once

#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/ops/elementwise_functions.h>

#include <limits>
#include <type_traits>

namespace fprnn::cuda {

// SiLU and its slope.
__device__ __forceinline__ real silu(real x) { return Silu().value(x); }
__device__ __forceinline__ real silu_slope(real x) { return Silu().slope(x); }

// x[k] <- value(d) for the thread's channels d.
template <class Channels, int C, class Value>
__device__ __forceinline__ void fill_channels(const Channels& c, real (&x)[C], const Value& value) {
#pragma unroll
  for (int k = 0; k < C; ++k) x[k] = 0;
  c.each([&](int k, auto d) { x[k] = value(d); });
}

// The thread's part of x . y.
template <int C>
__device__ __forceinline__ real part_of_dot(const real (&x)[C], const real (&y)[C]) {
  real total = 0;
#pragma unroll
  for (int k = 0; k < C; ++k) total += x[k] * y[k];
  return total;
}
template <class T, int C>
__device__ __forceinline__ real dot(const T& team, const real (&x)[C], const real (&y)[C]) {
  return team.sum(part_of_dot(x, y));
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
  return 1 / (length <= eps ? eps : length);
}
// The same of x(j) for j < count, whose squares may have overflowed or underflowed: each thread goes
// through all of them then.
template <class X>
__device__ __forceinline__ real inverse_length(real squares, real eps, int64_t count, const X& x) {
  if (sound_squares(squares, eps)) [[likely]]
    return inverse_length(squares, eps);
  real largest = eps;
  for (int64_t j = 0; j < count; ++j) largest = Larger()(magnitude(x(j)), largest);
  const real factor = inverse_power_of_two(largest);
  squares = 0;
  for (int64_t j = 0; j < count; ++j) squares += (factor * x(j)) * (factor * x(j));
  return factor * inverse_length(squares, factor * eps);
}
// Vectors of kernels that keep them in registers are added up in units, a power of two, in which eps is about the
// least length whose square is sound: what is shorter does not count, so squares may be as large as
// that leaves room for. Nothing is rounded for that. (eps 1e-5: lengths of up to 1e29.)
struct Lengths {
  real unit, eps;  // eps in units
  constexpr explicit Lengths(real eps) : unit(unit_of(eps)), eps(unit * eps) {}
  // 1 / max(length, eps) of what has these squares in units.
  __device__ __forceinline__ real inverse(real squares) const {
    return unit * inverse_length(squares, eps);
  }

 private:
  static constexpr real unit_of(real eps) {
    using Bits = std::conditional_t<kDouble, int64_t, int32_t>;
    constexpr int kMantissa = std::numeric_limits<real>::digits - 1;
    constexpr Bits kOne = std::numeric_limits<real>::max_exponent - 1;  // the exponent of 1, biased
    constexpr Bits kLeast = kDouble ? 485 : 51;                         // of lengths, below 1
    const Bits exponent = 2 * kOne - kLeast - (__builtin_bit_cast(Bits, eps) >> kMantissa);
    const Bits bounded = exponent < 1 ? 1 : exponent > kOne ? kOne : exponent;
    return __builtin_bit_cast(real, bounded << kMantissa);
  }
};
// What of the pull towards n the gradient of n = x / max(|x|, eps) has: none where eps was larger.
__device__ __forceinline__ real normal_part(real inverse, real eps, real dot_with_n) {
  return inverse * eps < 1 ? dot_with_n : real(0);
}

// b and c of N numbers in shared memory, normalised if bc_norm says so.
template <class T>
struct Directions {
  const T& team;
  real *b, *c;  // (N) each, in shared memory
  real b_inverse = 1, c_inverse = 1;
  real product;  // b . c

  // p(j) for j from 0 on: b, then c.
  template <class P>
  __device__ Directions(const T& team, int64_t N, bool bc_norm, real eps, const P& p, real* b,
                        real* c)
      : team(team), b(b), c(c) {
    const Lengths lengths(eps);
    const real unit = bc_norm ? lengths.unit : real(1);
    real sums[3]{};
    team.each(N, [&](auto n) {
      b[n] = unit * p(n);
      c[n] = unit * p(N + n);
      sums[0] += b[n] * b[n];
      sums[1] += c[n] * c[n];
      sums[2] += b[n] * c[n];
    });
    team.sums(sums);
    product = sums[2];
    if (bc_norm) {
      b_inverse = inverse_length(sums[0], lengths.eps);
      c_inverse = inverse_length(sums[1], lengths.eps);
      product *= b_inverse * c_inverse;
    }
    team.each(N, [&](auto n) {
      b[n] *= b_inverse;
      c[n] *= c_inverse;
    });
    b_inverse *= unit;
    c_inverse *= unit;
    team.sync();
  }

  // db and dc (N) in shared memory, complete: give(j, dp_j), counted as p is.
  template <class Give>
  __device__ void gradient(int64_t N, bool bc_norm, real eps, const real* db, const real* dc,
                           const Give& give) const {
    real along[2]{};
    team.each(N, [&](auto n) {
      along[0] += b[n] * db[n];
      along[1] += c[n] * dc[n];
    });
    team.sums(along);
    const real of_b = bc_norm ? normal_part(b_inverse, eps, along[0]) : real(0);
    const real of_c = bc_norm ? normal_part(c_inverse, eps, along[1]) : real(0);
    team.each(N, [&](auto n) {
      give(n, b_inverse * (db[n] - of_b * b[n]));
      give(N + n, c_inverse * (dc[n] - of_c * c[n]));
    });
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
