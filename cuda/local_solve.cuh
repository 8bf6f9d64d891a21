// The local equation of a mixer of rank r (cuda/local_equation.cuh) solved by one team, and its
// adjoint.
#pragma once

#include <fprnn/cuda/local_root.cuh>

namespace fprnn::cuda {

namespace local {

// y <- y(beta); whether the map moves it by no more than the tolerance.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ bool write(const Team& team, const LocalParameters& at, const Vectors& x,
                                      Space& n, Row& y) {
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    n.from[j] = n.beta[j] * n.inverse;
    n.change[j] = n.f[j] * n.next - n.from[j];
  }
  const real from = static_cast<real>(n.inverse), change = static_cast<real>(n.next - n.inverse);
  real largest[2] = {};  // of the difference, and of what the map makes
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) {
    y[k] = x.weight[k] * (n.a[k] * from + combine(n, n.w, n.from, k)) + x.bias[k];
    const real difference = x.weight[k] * (n.a[k] * change + combine(n, n.w, n.change, k));
    largest[0] = ::fmax(magnitude(difference), largest[0]);
    largest[1] = ::fmax(magnitude(y[k] + difference), largest[1]);
  }
  team.maxima(largest);
  return largest[0] <= at.tolerance * (largest[1] + kResidualFloor);
}

template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ int32_t iterate(const Team& team, const LocalParameters& at,
                                           const Vectors& x, Space& n, Row& y) {
  double tolerance = at.tolerance, last = 0;
  bool going = true;
  Plain<double> plain;
  Secular secular;
  const double eps = at.eps;
  int64_t count = 1;
  if constexpr (Space::kRank > 0 && !kDouble) count += plain_in_floats(n, at);
  n.inverse = ::rsqrt(variance_at(n, n.beta, eps));
  for (;; ++count) {
    const Residual<double> residual = evaluate(n, eps);
    const bool finite = residual.difference < INFINITY;
    if (finite && residual.difference <= tolerance * (residual.size + kResidualFloor)) {
      if (write(team, at, x, n, y)) return static_cast<int32_t>(count);
      tolerance /= 10;
    }
    const bool broken = !finite && going;
    if (broken)
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = n.inverse = NAN;
    if (broken || count >= at.max_iterations) {
      write(team, at, x, n, y);
      return static_cast<int32_t>(at.max_iterations);
    }
    going = going && plain.move(n, residual.difference, count);
    if (going) continue;
    if (residual.difference < 0.5 * last) {
      newton(n);
      last = residual.difference;
    } else {
      count += secular.narrow(n, eps, at.max_iterations - count - 1);
      last = INFINITY;
    }
    n.inverse = ::rsqrt(variance_at(n, n.beta, eps));
  }
}

// N is the identity: (I - U W) beta = U A, y = A + W beta.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ void solve_linear(const Team& team, const Vectors& x, Space& n, Row& y) {
  constexpr int R = Space::kRank;
  together<R + R * R>(team, [&](const auto& sum) {
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      sum(n.beta[i], [&] { return inner(n, x.u[i], n.a); });
#pragma unroll
      for (int64_t j = 0; j < n.r; ++j) sum(n.p1[i][j], [&] { return inner(n, x.u[i], n.w[j]); });
    }
  });
  from_identity(n, n.p1);
  eliminate(n, n.p1, n.beta);
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) y[k] = n.a[k] + combine(n, n.w, n.beta, k);
}

// W^T <- N' W^T at the solution, whose beta is there; a becomes sigma times the normalised value.
template <class Team, class Vectors, class Space>
__device__ __forceinline__ void through_norm(const Team& team, const LocalParameters& at,
                                             const Vectors& x, Space& n) {
  constexpr int R = Space::kRank;
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) n.a[k] += combine(n, n.w, n.beta, k);
  together<R == 0 ? 0 : R + 1>(team, [&](const auto& sum) {
    sum(n.variance, [&] { return inner(n, n.a, n.a); });
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) sum(n.cross[i], [&] { return inner(n, n.w[i], n.a); });
  });
  const double variance = n.variance / double(at.D) + at.eps;
  const real inverse = static_cast<real>(::rsqrt(variance));
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    const real pull = static_cast<real>(n.cross[i] / (at.D * variance));
#pragma unroll
    for (int64_t k = 0; k < n.c; ++k)
      n.w[i][k] = inverse * x.weight[k] * (n.w[i][k] - pull * n.a[k]);
  }
}

}  // namespace local

// y from beta = 0 on; returns how many iterations that took.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ int32_t local_solve(const Team& team, const LocalParameters& at,
                                               const Vectors& x, Space& n, Row& y) {
  local::make_rows(team, at, x, n, [](const auto&) {});
  if (!at.normalised) {
    local::solve_linear(team, x, n, y);
    return 1;
  }
  local::make_products(team, at, x, n);
  return local::iterate(team, at, x, n, y);
}

namespace local {

// Whether y(beta) is a small difference of large numbers, as on the CPU (ops/fp_mamba_solve_kernel.cpp).
template <class Space>
__device__ __forceinline__ bool cancels(const Space& n) {
  constexpr double kMost = kDouble ? 1e6 : 16;
  double terms = n.variance;
  for (int64_t i = 0; i < n.r; ++i) {
    const double start = n.p0[i] * n.inverse;
    terms += n.square[i][i] * (start * start + n.beta[i] * n.beta[i]);
  }
  return terms * n.inverse * n.inverse > kMost;
}

// Whether the equation holds at y, a factor of Q after the other; A is left to Q y.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ bool holds(const Team& team, const LocalParameters& at, const Vectors& x,
                                      Space& n, const Row& y) {
  const auto inside = [&](int64_t k) { return team.rank + k * Team::kSize < at.D; };
  for (int64_t k = 0; k < n.c; ++k) n.a[k] = y[k];
  for (int64_t i = 0; i < n.r; ++i) {
    const real along = team.sum(at.in_order ? inner(n, x.u[i], n.a) : inner(n, x.u[i], y));
    for (int64_t k = 0; k < n.c; ++k) n.a[k] -= at.scale * x.alpha[i] * along * x.u[i][k];
  }
  real total = 0;
  for (int64_t k = 0; k < n.c; ++k) {
    n.a[k] = inside(k) ? x.offset[k] + x.gain[k] * (y[k] - n.a[k]) : real(0);
    total += n.a[k];
  }
  const real mean = at.centred ? team.sum(total) / static_cast<real>(at.D) : real(0);
  for (int64_t k = 0; k < n.c; ++k) n.a[k] = inside(k) ? n.a[k] - mean : real(0);
  const real variance = team.sum(inner(n, n.a, n.a)) / static_cast<real>(at.D);
  const real inverse = 1 / square_root(variance + at.eps);
  real largest[2] = {};  // of the difference, and of what the map makes
  for (int64_t k = 0; k < n.c; ++k) {
    const real f = x.weight[k] * inverse * n.a[k] + x.bias[k];
    largest[0] = ::fmax(magnitude(f - y[k]), largest[0]);
    largest[1] = ::fmax(magnitude(f), largest[1]);
  }
  team.maxima(largest);
  return largest[0] <= (at.tolerance + kResidualRounding) * (largest[1] + kResidualFloor);
}

}  // namespace local

// The same for those who do not judge y themselves: one whose digits do not suffice counts as missed.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ int32_t judged_solve(const Team& team, const LocalParameters& at,
                                                const Vectors& x, Space& n, Row& y) {
  const int32_t count = local_solve(team, at, x, n, y);
  if (!at.normalised || count >= at.max_iterations || !local::cancels(n)) return count;
  return local::holds(team, at, x, n, y) ? count : static_cast<int32_t>(at.max_iterations);
}

// v <- w + U^T q with (I - E U^T) q = E w, at the solution y.
template <class Team, class Vectors, class Space, class Row>
__device__ __forceinline__ void local_adjoint(const Team& team, const LocalParameters& at,
                                              const Vectors& x, Space& n, const Row& y,
                                              const Row& w, Row& v) {
  constexpr int R = Space::kRank;
  local::make_rows<1>(team, at, x, n, [&](const auto& sum) {
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) sum(n.beta[i], [&] { return local::inner(n, x.u[i], y); });
  });
  if (at.normalised) local::through_norm(team, at, x, n);
  local::together<R + R * R>(team, [&](const auto& sum) {
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      sum(n.f[i], [&] { return local::inner(n, n.w[i], w); });
#pragma unroll
      for (int64_t j = 0; j < n.r; ++j)
        sum(n.p1[i][j], [&] { return local::inner(n, n.w[i], x.u[j]); });
    }
  });
  local::from_identity(n, n.p1);
  local::eliminate(n, n.p1, n.f);
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) v[k] = w[k] + local::combine(n, x.u, n.f, k);
}

}  // namespace fprnn::cuda
