// The product of a Kronecker mixer, p = left^T X right for the rows X (m1, m2) of a vector, and the
// equations that a token solves with it: y = N(A + S . ((I - Q) y)) and its adjoint, both iterated. A
// vector is spread over a team: thread i of n holds the channels i, i + n, ... in registers, or in memory
// where there are many. The transposed product is that of the transposed factors.
#pragma once

#include <fprnn/cuda/small_matrix.cuh>

namespace fprnn::cuda {

// The channels of a team's vector: `count` to a thread, a constant for registers, which are 0 beyond D.
template <class T, class Count, class Size>
struct Channels {
  T team;
  Count count;
  Size D;

  // visit(k, d) for the thread's k-th channel, d.
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    using Index = typename T::Index;
#pragma unroll
    for (Index k = 0; k < count; ++k) {
      const Index d = team.rank + k * T::kSize;
      if (d < D) visit(k, d);
    }
  }
  template <class Term>
  __device__ __forceinline__ real sum(const Term& term) const {
    real total = 0;
    each([&](auto k, auto) { total += term(k); });
    return team.sum(total);
  }
};
template <int C, class Size>
using WarpChannels = Channels<Team<false>, Constant<C>, Size>;

// A thread's part of a vector in memory, indexed as one in registers.
template <class Real>
struct Spread {
  Real* first;
  __device__ __forceinline__ Real& operator[](int64_t k) const {
    return first[k * Team<true>::kSize];
  }
};

// For sizes that a warp divides into columns: lane l has column l % M2 of every kGroups-th row. left^T X
// meets the other rows of the lane's column in lanes that are a multiple of M2 away; its rows go through
// shared memory to meet the lane's column of right, which stays in registers, as left does where it is
// small. left and right are (M1, M1) and (M2, M2), contiguous, in shared memory, and so is work (M1 M2);
// all begin at multiples of 16 bytes.
template <int M1, int M2>
class RegisterProduct {
 public:
  static constexpr int kGroups = kWarp / M2, C = M1 * M2 / kWarp;
  static constexpr int64_t kSpace = M1 * M1 + M2 * M2 + M1 * M2;
  static_assert(kWarp % M2 == 0 && M1 % kGroups == 0 && M1 * M1 % Quad::kCount == 0);
  static __device__ __forceinline__ WarpChannels<C, Constant<M1 * M2>> channels() { return {}; }

  __device__ __forceinline__ RegisterProduct(const real* left, const real* right, real* work)
      : left_(left), work_(work), group_(threadIdx.x % kWarp / M2) {
    const int column = threadIdx.x % M2;
#pragma unroll
    for (int j = 0; j < M2; ++j) right_[j] = right[j * M2 + column];
    if constexpr (kLeftStays) {
#pragma unroll
      for (int s = 0; s < kGroups; ++s)
#pragma unroll
        for (int r = 0; r < C; ++r) load_left(s, r, stay_[s * C + r]);
    }
  }

  // y <- left^T x right.
  template <class Channels>
  __device__ __forceinline__ void apply(const Channels&, const real (&x)[C], real (&y)[C]) const {
    real rows[C]{};
#pragma unroll
    for (int s = 0; s < kGroups; ++s)
#pragma unroll
      for (int r = 0; r < C; ++r) {
        const real other = s == 0 ? x[r] : __shfl_xor_sync(kAllLanes, x[r], s * M2);
        real left[C];
        if constexpr (!kLeftStays) load_left(s, r, left);
#pragma unroll
        for (int k = 0; k < C; ++k)
          rows[k] += (kLeftStays ? stay_[kLeftStays ? s * C + r : 0][k] : left[k]) * other;
      }
#pragma unroll
    for (int k = 0; k < C; ++k) {
      work_[threadIdx.x % kWarp + k * kWarp] = rows[k];
      y[k] = 0;
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < M2; j += Quad::kCount)
#pragma unroll
      for (int k = 0; k < C; ++k) {
        const Quad row = *reinterpret_cast<const Quad*>(work_ + (group_ + k * kGroups) * M2 + j);
#pragma unroll
        for (int q = 0; q < Quad::kCount; ++q) y[k] += row.v[q] * right_[j + q];
      }
    __syncwarp();
  }

 private:
  static constexpr bool kLeftStays = M1 * C <= 32;

  // What row r of the lanes s groups away adds to the lane's own rows.
  __device__ __forceinline__ void load_left(int s, int r, real (&to)[C]) const {
    const real* from = left_ + ((group_ ^ s) + r * kGroups) * M1 + group_;
    if constexpr (kGroups == 1) {
#pragma unroll
      for (int k = 0; k < C; k += Quad::kCount) {
        const Quad quad = *reinterpret_cast<const Quad*>(from + k);
#pragma unroll
        for (int q = 0; q < Quad::kCount; ++q) to[k + q] = quad.v[q];
      }
    } else {
#pragma unroll
      for (int k = 0; k < C; ++k) to[k] = from[k * kGroups];
    }
  }

  const real* left_;
  real* work_;
  int group_;
  real right_[M2], stay_[kLeftStays ? M1 : 1][C];
};

// visit(m1, m2) with the sizes that RegisterProduct is for as constants; false for others.
template <class Visit>
bool with_constants(int64_t m1, int64_t m2, const Visit& visit) {
  const auto is = [&](auto first, auto second) {
    if (m1 != first || m2 != second) return false;
    visit(first, second);
    return true;
  };
  return is(Constant<4>(), Constant<8>()) || is(Constant<8>(), Constant<8>()) ||
         is(Constant<8>(), Constant<16>()) || is(Constant<16>(), Constant<16>()) ||
         is(Constant<16>(), Constant<32>());
}

// For any sizes: left and right in any memory, contiguous; work (2 m1 m2) in shared memory, or a block's
// own in any.
template <class T>
struct AnyProduct {
  using Index = typename T::Index;
  const real *left, *right;
  real* work;
  Index m1, m2;

  template <class Channels, class X, class Y>
  __device__ __forceinline__ void apply(const Channels& c, const X& x, Y& y) const {
    real* const rows = work + m1 * m2;
    c.each([&](auto k, auto d) { work[d] = x[k]; });
    c.team.sync();
    small_product(
        c.team, m1, m1, m2, [&](Index i, Index l) { return left[l * m1 + i]; },
        [&](Index l, Index j) { return work[l * m2 + j]; },
        [&](Index i, Index j, real total) { rows[i * m2 + j] = total; });
    c.team.sync();
    small_product(
        c.team, m1, m2, m2, [&](Index i, Index l) { return rows[i * m2 + l]; },
        [&](Index l, Index j) { return right[l * m2 + j]; },
        [&](Index i, Index j, real total) { work[i * m2 + j] = total; });
    c.team.sync();
    c.each([&](auto k, auto d) { y[k] = work[d]; });
  }
};

struct KroneckerParameters {
  real scale;
  bool normalised;  // whether N is a LayerNorm
  real eps, tolerance;
  int32_t max_iterations;
};

__device__ __forceinline__ float inverse_root(float x) { return ::rsqrtf(x); }
__device__ __forceinline__ double inverse_root(double x) { return ::rsqrt(x); }
__device__ __forceinline__ bool finite(real x) { return x * 0 == 0; }

// How far f is from y.
struct Distance {
  real difference, size;  // max |f - y|, max |f|
  bool broken;            // whether any f - y is NaN or infinite
};
template <class Channels, class F, class Y>
__device__ __forceinline__ Distance distance_of(const Channels& c, const F& f, const Y& y) {
  real difference = 0, size = 0;
  bool whole = true;
  c.each([&](auto k, auto) {
    const real change = f[k] - y[k];
    difference = ::fmax(magnitude(change), difference);
    size = ::fmax(magnitude(f[k]), size);
    whole = whole && finite(change);
  });
  return {c.team.largest(difference), c.team.largest(size), c.team.any(!whole)};
}

// x - mean and 1 / sigma of a LayerNorm, from one round of sums: x is summed from `shift` on, which is near
// its mean, and becomes it.
template <class Channels, class X>
__device__ __forceinline__ real center(const Channels& c, real eps, real& shift, X& x) {
  real total = 0, squares = 0;
  c.each([&](auto k, auto) {
    x[k] -= shift;
    total += x[k];
    squares += x[k] * x[k];
  });
  const real part = real(1) / static_cast<real>(c.D);
  const real mean = c.team.sum(total) * part;
  const real variance = c.team.sum(squares) * part - mean * mean;
  c.each([&](auto k, auto) { x[k] -= mean; });
  shift += mean;
  return inverse_root((variance < 0 ? real(0) : variance) + eps);
}

// The root rule of ops/fp_mamba_solve.md.
struct StepSize {
  real step = 1, best = static_cast<real>(INFINITY);
  int stalled = 0;

  // along(): (f - y) . (f - y an iteration ago), asked for only where it matters.
  template <class Along>
  __device__ __forceinline__ void after(real difference, const Along& along) {
    if (difference < static_cast<real>(0.9) * best) {
      best = difference;
      stalled = 0;
    } else if (along() < 0 && ++stalled == 4) {
      step = step > static_cast<real>(1.0 / 32) ? step / 2 : static_cast<real>(1.0 / 64);
      stalled = 0;
    }
  }
};

// y from 0 on, to the tolerance as in ops/kronecker_solve.h; returns how often f was evaluated. f and
// before are working space.
template <class Channels, class Product, class In, class Out, class Space>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const In& offset, const In& gain,
                                                     const In& weight, const In& bias, Out& y,
                                                     Space& f, Space& before) {
  StepSize size;
  c.each([&](auto k, auto) { y[k] = before[k] = 0; });
  real shift = at.normalised ? c.sum([&](auto k) { return offset[k]; }) / c.D : real(0);
  for (int32_t count = 1;; ++count) {
    product.apply(c, y, f);
    c.each([&](auto k, auto) { f[k] = offset[k] + gain[k] * (at.scale * f[k]); });
    if (at.normalised) {
      const real inverse = center(c, at.eps, shift, f);
      c.each([&](auto k, auto) { f[k] = weight[k] * (f[k] * inverse) + bias[k]; });
    }
    const Distance distance = distance_of(c, f, y);
    if (distance.broken) {
      c.each([&](auto k, auto) { y[k] = static_cast<real>(NAN); });
      return at.max_iterations;
    }
    if (distance.difference <= at.tolerance * (distance.size + static_cast<real>(1e-8)) ||
        count == at.max_iterations)
      return count;
    size.after(distance.difference,
               [&] { return c.sum([&](auto k) { return (f[k] - y[k]) * before[k]; }); });
    c.each([&](auto k, auto) {
      before[k] = f[k] - y[k];
      y[k] += size.step * before[k];
    });
  }
}
template <class Product, int C>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Product& product,
                                                     const real (&offset)[C], const real (&gain)[C],
                                                     const real (&weight)[C], const real (&bias)[C],
                                                     real (&y)[C]) {
  real f[C], before[C];
  return kronecker_iterate(at, Product::channels(), product, offset, gain, weight, bias, y, f,
                           before);
}

// What N has of A + S . ((I - Q) y): n, that vector normalised; returns 1 / sigma.
template <class Channels, class Product, class In, class Out>
__device__ __forceinline__ real kronecker_normalised(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const In& offset, const In& gain, const In& y,
                                                     Out& n) {
  product.apply(c, y, n);
  c.each([&](auto k, auto) { n[k] = offset[k] + gain[k] * (at.scale * n[k]); });
  if (!at.normalised) return 1;
  real shift = c.sum([&](auto k) { return n[k]; }) / c.D;
  const real inverse = center(c, at.eps, shift, n);
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
  real mean = 0, pull = 0;
  c.each([&](auto k, auto) {
    to[k] = weight[k] * v[k];
    mean += to[k];
    pull += to[k] * n[k];
  });
  mean = c.team.sum(mean) / c.D;
  pull = c.team.sum(pull) / c.D;
  c.each([&](auto k, auto) { to[k] = gain[k] * (inverse * (to[k] - mean - n[k] * pull)); });
}

// v = w + J^T v for J = N' diag(S) (I - Q) at the solution whose n and 1 / sigma these are, from w on, by
// the rule of models/fixed_point_layer: the step is halved after 16 that have not helped. transposed: the
// product of the transposed factors. Returns how often the map was evaluated; f is working space.
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
    transposed.apply(c, f, f);
    c.each([&](auto k, auto) { f[k] = w[k] + at.scale * f[k]; });
    const Distance distance = distance_of(c, f, v);
    if (distance.broken) {
      c.each([&](auto k, auto) { v[k] = static_cast<real>(NAN); });
      return at.max_iterations;
    }
    const real residual = distance.difference / (distance.size + static_cast<real>(1e-8));
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
