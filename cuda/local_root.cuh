// The root of the local equation in r numbers (cuda/local_equation.cuh),
//   beta = F(beta)
// by plain iteration, then the largest sigma, then Newton's steps (ops/fp_mamba_solve.md).
#pragma once

#include <fprnn/cuda/local_equation.cuh>

namespace fprnn::cuda::local {

// sigma^2(beta).
template <class Space, class Ranks, class Scalar = typename Space::Scalar>
__device__ __forceinline__ Scalar variance_at(const Space& n, const Ranks& beta, Scalar eps) {
  Scalar variance = n.variance;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    Scalar slope = 2 * n.cross[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) slope += n.square[i][j] * beta[j];
    variance += beta[i] * slope;
  }
  return variance < eps ? eps : variance;
}

template <class Scalar>
struct Residual {
  Scalar difference = 0, size = 0;  // max |F - beta|, max |F|
};

// f <- F(beta), and its 1 / sigma, which nothing else here waits for.
template <class Space, class Scalar = typename Space::Scalar>
__device__ __forceinline__ Residual<Scalar> evaluate(Space& n, Scalar eps) {
  Residual<Scalar> residual;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    Scalar total = n.p0[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) total += n.p1[i][j] * n.beta[j];
    n.f[i] = total * n.inverse + n.e[i];
    residual.difference = Larger()(::fabs(n.f[i] - n.beta[i]), residual.difference);
    residual.size = ::fmax(residual.size, ::fabs(n.f[i]));
  }
  n.next = inverse_root(variance_at(n, n.f, eps));
  return residual;
}

// Plain iteration, whose root is the one that can be learnt, as long as it gets somewhere, and 32 times.
template <class Scalar>
struct Plain {
  static constexpr int kMost = 32;
  Scalar best = INFINITY;
  int stalled = 0;

  template <class Space>
  __device__ __forceinline__ bool move(Space& n, Scalar residual, int64_t count) {
    Scalar along = 0;  // the last step
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      const Scalar now = n.f[i] - n.beta[i];
      if (count > 1) along += now * n.before[i];
      n.before[i] = now;
      n.beta[i] = n.f[i];
    }
    n.inverse = n.next;
    if (residual < static_cast<Scalar>(0.9) * best) {
      best = residual;
      stalled = 0;
    } else if (along < 0) {
      ++stalled;
    }
    return stalled < 4 && count < kMost;
  }
};

// What plain iteration works on, in floats.
template <int R>
struct FloatSpace {
  using Scalar = float;
  static constexpr int r = R;
  float square[R][R], p1[R][R], cross[R], p0[R], e[R], beta[R], f[R], before[R];
  float variance, inverse = 0, next = 0;

  template <class Space>
  __device__ __forceinline__ explicit FloatSpace(const Space& n)
      : variance(static_cast<float>(n.variance)) {
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < R; ++j) {
        square[i][j] = static_cast<float>(n.square[i][j]);
        p1[i][j] = static_cast<float>(n.p1[i][j]);
      }
      cross[i] = static_cast<float>(n.cross[i]);
      p0[i] = static_cast<float>(n.p0[i]);
      e[i] = static_cast<float>(n.e[i]);
      beta[i] = before[i] = 0;
    }
  }
};

// The first steps of plain iteration, as far as floats tell where it goes: a third of the time of
// those in double. Returns how many; none where they left the range of floats.
template <class Space>
__device__ __forceinline__ int64_t plain_in_floats(Space& n, const LocalParameters& at) {
  constexpr float kNear = 4e-6f;  // relative, well above what they round
  const float eps = static_cast<float>(at.eps),
              near = at.tolerance > kNear ? static_cast<float>(at.tolerance) : kNear;
  const int64_t most =
      at.max_iterations < Plain<float>::kMost ? at.max_iterations : int64_t{Plain<float>::kMost};
  FloatSpace<Space::kRank> in(n);
  Plain<float> plain;
  in.inverse = inverse_root(variance_at(in, in.beta, eps));
  int64_t count = 0;
  bool going = true;
  while (going && count + 1 < most) {
    const Residual<float> residual = evaluate(in, eps);
    if (!(residual.difference < 1e15f)) return 0;
    if (residual.difference <= near * residual.size) break;
    going = plain.move(in, residual.difference, ++count);
  }
#pragma unroll
  for (int i = 0; i < Space::kRank; ++i) {
    n.beta[i] = in.beta[i];
    n.before[i] = in.before[i];
  }
  return count;
}

// The equation in sigma alone: the largest root. Each lane of a warp has a sigma.
struct Secular {
  static constexpr int kRounds = 3, kMost = 12;
  double low = 0, high = 0;  // around the root, once that is known
  bool pole = false;         // whether the determinant changes its sign there

  // beta <- that of `high`, nearer to the root each time; returns how many rounds that took.
  template <class Space>
  __device__ __forceinline__ int64_t narrow(Space& n, double eps, int64_t most) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const bool first = high == 0;
    begin(n, eps);
    int64_t round = 0;
    int above = 0;
    do {
      const double part = static_cast<double>(lane + 1) / kWarp;
      const double bend = first && round == 0 ? part * part * part : 1;
      const double sigma = low + (high - low) * part * bend;
      bool negative;
      const bool is_below = below(n, sigma, eps, negative) && lane < kWarp - 1;
      above = kWarp - __clz(static_cast<int>(__ballot_sync(kAllLanes, is_below)));
      if (above > 0) {
        low = __shfl_sync(kAllLanes, sigma, above - 1);
        pole = __shfl_sync(kAllLanes, static_cast<int>(negative), above - 1) != 0;
      }
      high = __shfl_sync(kAllLanes, sigma, above);
      ++round;
    } while (round < most && (round < kRounds || (pole && round < kMost)));
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) n.beta[i] = __shfl_sync(kAllLanes, n.change[i], above);
    return round;
  }

 private:
  // from <- p0 + P1 e. The first time low and high as well.
  template <class Space>
  __device__ __forceinline__ void begin(Space& n, double eps) {
    double p1 = 0, w = 0, start = 0;  // squares of norms
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      n.from[i] = n.p0[i];
#pragma unroll
      for (int64_t j = 0; j < n.r; ++j) {
        n.from[i] += n.p1[i][j] * n.e[j];
        p1 += n.p1[i][j] * n.p1[i][j];
      }
      w += n.square[i][i];
      start += n.from[i] * n.from[i];
    }
    if (high > 0) return;
    high = ::sqrt(p1) + ::sqrt(variance_at(n, n.e, eps)) + ::sqrt(::sqrt(w * start));
    low = ::sqrt(eps);
  }

  // Whether sigma is smaller than the root: sigma(beta) is not below it, or has been infinite since.
  // change: beta.
  template <class Space>
  __device__ __forceinline__ bool below(Space& n, double sigma, double eps, bool& negative) const {
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
#pragma unroll
      for (int64_t j = 0; j < n.r; ++j) n.m[i][j] = (i == j ? sigma : 0) - n.p1[i][j];
      n.change[i] = n.from[i];
    }
    negative = eliminate(n, n.m, n.change);
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) n.change[i] += n.e[i];
    return negative || !(variance_at(n, n.change, eps) < sigma * sigma);
  }
};

// beta <- beta + (1 - F'(beta))^-1 (F - beta): Newton's step.
template <class Space>
__device__ __forceinline__ void newton(Space& n) {
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    double slope = n.cross[j];
#pragma unroll
    for (int64_t k = 0; k < n.r; ++k) slope += n.square[j][k] * n.beta[k];
    slope *= n.inverse * n.inverse;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i)
      n.m[i][j] = (i == j) - n.p1[i][j] * n.inverse + (n.f[i] - n.e[i]) * slope;
    n.change[j] = n.f[j] - n.beta[j];
  }
  eliminate(n, n.m, n.change);
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) n.beta[i] += n.change[i];
}

}  // namespace fprnn::cuda::local
