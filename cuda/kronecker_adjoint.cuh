// The adjoint of a Kronecker mixer's equation (cuda/kronecker_equation.cuh) at its solution, v = w + J^T v, which is
// iterated.
#pragma once

#include <fprnn/cuda/kronecker_equation.cuh>

namespace fprnn::cuda {

// What N has of A + S . ((I - Q) y): n, that vector normalised; returns 1 / sigma.
template <class Channels, class Product, class In, class Out>
__device__ __forceinline__ real kronecker_normalised(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const In& offset, const In& gain, const In& y,
                                                     Out& n) {
  product.apply(y, n);
  c.each([&](auto k, auto) { n[k] = offset[k] + gain[k] * (at.scale * n[k]); });
  if (!at.normalised) return 1;
  real shift = at.centred ? sum_over(c, [&](auto k) { return n[k]; }) / c.D : real(0);
  const real inverse = at.centred ? center(c, at.eps, shift, n) : inverse_size(c, at.eps, n);
  c.each([&](auto k, auto) { n[k] *= inverse; });
  return inverse;
}

// to <- S . N'^T v = S . (gamma . v - mean(gamma . v) - n mean(gamma . v . n)) / sigma.
template <class Channels, class In, class Out>
__device__ __forceinline__ void back_through_norm(const KroneckerParameters& at, const Channels& c,
                                                  const In& n, real inverse, const In& gain,
                                                  const In& weight, const In& v, Out& to) {
  if (!at.normalised) {
    c.each([&](auto k, auto) { to[k] = gain[k] * v[k]; });
    return;
  }
  real sums[2]{};
  c.each([&](auto k, auto) {
    to[k] = weight[k] * v[k];
    sums[0] += to[k];
    sums[1] += to[k] * n[k];
  });
  c.team.sums(sums);
  const real mean = at.centred ? sums[0] / c.D : real(0), pull = sums[1] / c.D;
  c.each([&](auto k, auto) { to[k] = gain[k] * (inverse * (to[k] - mean - n[k] * pull)); });
}

// v = w + J^T v for J = N' diag(S) (I - Q) at the solution whose n and 1 / sigma these are, from w
// on, by the rule of models/mixer.cpp: the step is halved after 16 that have not helped.
// transposed: the product of the transposed factors. Returns how often the map was evaluated; f is
// working space.
template <class Channels, class Product, class In, class Out>
__device__ __forceinline__ int32_t kronecker_adjoint(const KroneckerParameters& at,
                                                     const Channels& c, const Product& transposed,
                                                     const In& n, real inverse, const In& gain,
                                                     const In& weight, const In& w, Out& v,
                                                     Out& f) {
  real step = 1, best = static_cast<real>(INFINITY);
  int since = 0;
  c.each([&](auto k, auto) { v[k] = w[k]; });
  for (int32_t count = 1;; ++count) {
    back_through_norm(at, c, n, inverse, gain, weight, v, f);
    transposed.apply(f, f);
    c.each([&](auto k, auto) { f[k] = w[k] + at.scale * f[k]; });
    const Distance distance = distance_of(
        c, [&](auto k) { return f[k]; }, v);
    if (distance.broken()) {
      c.each([&](auto k, auto) { v[k] = static_cast<real>(NAN); });
      return at.max_iterations;
    }
    const real residual = distance.difference / (distance.size + static_cast<real>(kResidualFloor));
    if (residual <= at.tolerance) return count;
    if (residual <= best * static_cast<real>(0.9)) {
      best = residual;
      since = 0;
    } else if (++since == 16) {
      since = 0;
      step = step > static_cast<real>(1.0 / 32) ? step / 2 : static_cast<real>(1.0 / 64);
    }
    c.each([&](auto k, auto) { v[k] = step == 1 ? f[k] : step * f[k] + (1 - step) * v[k]; });
    if (count == at.max_iterations) return count;
  }
}

}  // namespace fprnn::cuda
