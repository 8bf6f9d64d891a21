// What the adjoint sweeps of layers with a norm have in common (ops/fp_mamba_sweep.h,
// ops/fp_delta_sweep.h), for a token by a team: the adjoint of the step's local equation, and the
// way back through the norm.
#pragma once

#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/norm_statistics.h>

namespace fprnn::cuda {

// A token at its solution.
template <int C>
struct StepAtSolution {
  real y[C];
  real value[C];   // before the norm
  real gain[C];    // of the local equation
  real dmixed[C];  // the cotangent of mixed = Q (x - y) + y from later steps
};

// v, written to in.v too: g_t is there, and y_t has met dprevious (D), or null, as a previous one.
// Raises iterations to what that took.
template <bool kCentred, class Mixer, class In, int C>
__device__ __forceinline__ void solve_back(const Mixer& mixer, const In& in, int64_t b, int64_t t,
                                           const real* dprevious, const StepAtSolution<C>& at,
                                           real (&v)[C]) {
  const auto channels = mixer.channels();
  const int64_t first = (b * in.T + t) * in.D;
  real turned[C], mixed[C], offset[C], w[C], weight[C], bias[C];
#pragma unroll
  for (int k = 0; k < C; ++k) {
    turned[k] = w[k] = at.dmixed[k];
    mixed[k] = at.y[k];
  }
  mixer.apply_transposed(turned);
  mixer.apply(mixed);
#pragma unroll
  for (int k = 0; k < C; ++k) offset[k] = at.value[k] - at.gain[k] * (at.y[k] - mixed[k]);
  channels.each([&](int k, int64_t d) {
    w[k] += in.v[first + d] - turned[k];
    if (dprevious != nullptr) w[k] += dprevious[b * in.D + d];
  });
  fill_channels(channels, weight, [&](int64_t d) { return in.norm_weight[d]; });
  fill_channels(channels, bias, [&](int64_t d) {
    if constexpr (kCentred)
      return in.norm_bias[d];
    else
      return real(0);
  });
  const int32_t count = mixer.adjoint(local_parameters(in, true, kCentred), offset, at.gain, weight,
                                      bias, at.y, w, v);
  if (channels.team.rank == 0 && count > in.iterations[b]) in.iterations[b] = count;
  channels.each([&](int k, int64_t d) { in.v[first + d] = v[k]; });
}

// (dN / dv)^T v at `value`, whose lanes beyond the last channel are 0.
template <bool kCentred, class Channels, class In, int C>
__device__ __forceinline__ void through_norm(const Channels& c, const In& in,
                                             const real (&value)[C], real (&v)[C]) {
  real n[C]{}, g[C]{};
  const real mean = kCentred ? sum_over(c, [&](auto k) { return value[k]; }) / in.D : real(0);
  c.each([&](int k, int64_t) { n[k] = value[k] - mean; });
  const auto variance_of_n = [&] {
    return sum_over(c, [&](auto k) { return n[k] * n[k]; }) / in.D + in.eps;
  };
  real variance = variance_of_n();
  if (kCentred && is_far(mean, variance)) [[unlikely]] {
    const real rest = sum_over(c, [&](auto k) { return n[k]; }) / in.D;
    c.each([&](int k, int64_t) { n[k] -= rest; });
    variance = variance_of_n();
  }
  const real inverse = 1 / square_root(variance);
  real sums[2]{};
  c.each([&](int k, int64_t d) {
    n[k] *= inverse;
    g[k] = in.norm_weight[d] * v[k];
    sums[0] += g[k];
    sums[1] += g[k] * n[k];
  });
  c.team.sums(sums);
  const real shift = kCentred ? sums[0] / in.D : real(0), pull = sums[1] / in.D;
#pragma unroll
  for (int k = 0; k < C; ++k) v[k] = inverse * (g[k] - shift - n[k] * pull);
}

}  // namespace fprnn::cuda
