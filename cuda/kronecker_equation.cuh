// The equations that a token with a Kronecker mixer solves: y = N(A + S . ((I - Q) y)), as derived in
// ops/kronecker_solve.md and with its names, and the adjoint, v = w + J^T v, which is iterated.
#pragma once

#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::cuda {

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
    const real value = f(k), change = value - y[k];
    difference = ::fmax(magnitude(change), difference);
    size = ::fmax(magnitude(value), size);
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

// Krylov's space of a token (ops/kronecker_solve.md): an orthonormal basis, and the Hessenberg matrix H that
// the operator is in it. Lane l of each warp has H's columns l, l + 32, ..., and a solution c for its own
// sigma. All but the newest vector are in memory of the thread, which rarely is more than a few.
template <int Most>
struct Hessenberg {
  static constexpr int kMost = Most;
  real h[Most + 1][(Most + kWarp - 1) / kWarp], c[Most];
  real start,
      next;  // lengths of the first vector, and of the one after the last before it became 1

  __device__ __forceinline__ real at(int i, int j) const {
    return __shfl_sync(kAllLanes, h[i][j / kWarp], j % kWarp);
  }
  __device__ __forceinline__ void put(int i, int j, real value, bool add = false) {
    real& to = h[i][j / kWarp];
    if (lane() == j % kWarp) to = add ? to + value : value;
  }
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  // The root of the squares of H (m, m).
  __device__ __forceinline__ real length(int m) const {
    real squares = 0;
    for (int j = lane(); j < m; j += kWarp)
      for (int i = 0; i < m && i <= j + 1; ++i) squares += h[i][j / kWarp] * h[i][j / kWarp];
    return ::sqrt(warp_sum(squares));
  }
};
template <int C>
struct KrylovInThread : Hessenberg<(C * kWarp <= kKrylovLong ? C * kWarp : kKrylovMostLong)> {
  real vectors[KrylovInThread::kMost][C];
  __device__ __forceinline__ real& vector(int i, int k) { return vectors[i][k]; }
};
struct KrylovInMemory : Hessenberg<kKrylovMostLong> {
  real* first;  // a thread's part of (kMost, D)
  int64_t D;
  __device__ KrylovInMemory(real* first, int64_t D) : first(first), D(D) {}
  __device__ __forceinline__ real& vector(int i, int64_t k) {
    return first[i * D + k * Team<true>::kSize];
  }
};

// c in (sigma I - H) c = t e_1 for the lane's sigma, from c_m = 1 upwards (Hyman). What becomes large makes
// all before it smaller.
struct Section {
  real sigma, t, squares;  // |c|^2
};
template <class Krylov>
__device__ __forceinline__ Section solve_section(Krylov& krylov, int m, real sigma) {
  constexpr real kLarge = static_cast<real>(1e12);
  auto& c = krylov.c;
  c[m - 1] = 1;
  real t = 0;
  for (int i = m - 1; i >= 0; --i) {
    real total[4] = {sigma * c[i]};
    for (int block = i / kWarp * kWarp; block < m; block += kWarp) {
      const real row = krylov.h[i][block / kWarp];
      const int end = m < block + kWarp ? m : block + kWarp;
      int j = i > block ? i : block;
      for (; j + 4 <= end; j += 4)
#pragma unroll
        for (int q = 0; q < 4; ++q)
          total[q] -= __shfl_sync(kAllLanes, row, (j + q) % kWarp) * c[j + q];
      for (; j < end; ++j) total[0] -= __shfl_sync(kAllLanes, row, j % kWarp) * c[j];
    }
    t = (total[0] + total[1]) + (total[2] + total[3]);
    if (i == 0) break;
    t /= krylov.at(i, i - 1);
    c[i - 1] = t;
    if (magnitude(t) > kLarge)
      for (int j = i - 1; j < m; ++j) c[j] *= 1 / kLarge;
  }
  real squares = 0;
  for (int i = 0; i < m; ++i) squares += c[i] * c[i];
  return {sigma, t, squares};
}

// What the projected equation leaves of the whole one.
template <class Krylov>
__device__ __forceinline__ real missing(const Krylov& krylov, int m, const Section& section) {
  return magnitude(krylov.next * krylov.c[m - 1] * krylov.start / section.t);
}

// The largest sigma with |c| = |n|, and its c; `solved`: whether that solves the whole equation. Not
// `certain`: one that does not is given up early.
template <class Krylov>
__device__ __forceinline__ Section secular(Krylov& krylov, int m, real D, real eps, real within,
                                           bool certain, bool& solved) {
  static_assert(kKrylovSections == kWarp);
  const int lane = Krylov::lane();
  real low = ::sqrt(eps), top = 0;
  real high = krylov.length(m) + static_cast<real>(1.5) * krylov.start / ::sqrt(D) + 2 * low;
  for (int round = 0; round < kKrylovRounds; ++round) {
    const real part = static_cast<real>(lane + 1) / kWarp;
    const real sigma = round == 0 ? low * ::pow(high / low, part) : low + (high - low) * part;
    const Section at = solve_section(krylov, m, sigma);
    if (round == 0) top = __shfl_sync(kAllLanes, at.t, kWarp - 1);
    // Too small a sigma: |c| is larger than |n|, or has been infinite since.
    const real most = D * (1 - eps / (sigma * sigma));
    const bool below =
        lane < kWarp - 1 &&
        ((at.t < 0) != (top < 0) || krylov.start * krylov.start * at.squares >= most * at.t * at.t);
    const int k = kWarp - __clz(static_cast<int>(__ballot_sync(kAllLanes, below)));
    const real left = missing(krylov, m, at);
    if (k > 0) low = __shfl_sync(kAllLanes, sigma, k - 1);
    high = __shfl_sync(kAllLanes, sigma, k);
    solved = __shfl_sync(kAllLanes, left, k) <= 30 * high * within;
    if (round == 2 && !certain && !solved) return at;
  }
  const Section at = solve_section(krylov, m, (low + high) / 2);
  solved = missing(krylov, m, at) <= at.sigma * within;
  return at;
}

// Sums over a warp of a few values at once: value i is in lanes 2 i and 2 i + 1.
inline constexpr int kSumsTogether = kWarp / 2;
__device__ __forceinline__ real sums_of(real (&x)[kSumsTogether]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = kSumsTogether / 2; half > 0; half /= 2) {
    const bool upper = (lane & (2 * half)) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const real mine = upper ? x[i + half] : x[i], other = upper ? x[i] : x[i + half];
      x[i] = mine + __shfl_xor_sync(kAllLanes, other, 2 * half);
    }
  }
  return x[0] + __shfl_xor_sync(kAllLanes, x[0], 1);
}

// The equation of one token: In and Vector are what a thread has of a vector.
template <class Channels, class Product, class In, class Krylov, class Vector>
struct KroneckerEquation {
  const KroneckerParameters& at;
  const Channels& c;
  const Product& product;
  const In &offset, &gain, &weight, &bias;
  Krylov& krylov;
  Vector &y, &n, &v;  // n: f before weight and bias, if there is a LayerNorm
  real shift, inverse = 1;
  Distance distance{};

  __device__ __forceinline__ int32_t solve() {
    const int most = c.D < Krylov::kMost ? static_cast<int>(c.D) : Krylov::kMost;
    real last = static_cast<real>(INFINITY);
    bool plain = true, linear = !at.normalised;
    c.each([&](auto k, auto) { y[k] = 0; });
    shift = at.normalised ? c.sum([&](auto k) { return offset[k]; }) / c.D : real(0);
    int32_t count = 1;
    for (;; ++count) {
      evaluate();
      if (distance.broken) {
        c.each([&](auto k, auto) { y[k] = static_cast<real>(NAN); });
        return at.max_iterations;
      }
      if (distance.difference <= within() || count >= at.max_iterations) break;
      plain = plain &&
              ((at.normalised && count < kKrylovAfter) || distance.difference < last * real(0.5));
      last = distance.difference;
      if (plain || !leap(linear, most, count)) c.each([&](auto k, auto) { y[k] = f(k); });
      linear = linear || !plain;
    }
    return count < at.max_iterations ? count : at.max_iterations;
  }

 private:
  template <class K>
  __device__ __forceinline__ real f(K k) const {
    return at.normalised ? weight[k] * n[k] + bias[k] : n[k];
  }
  __device__ __forceinline__ real within() const {
    return at.tolerance * (distance.size + static_cast<real>(1e-8));
  }

  __device__ __forceinline__ void evaluate() {
    product.apply(c, y, n);
    c.each([&](auto k, auto) { n[k] = offset[k] + gain[k] * (at.scale * n[k]); });
    if (at.normalised) {
      inverse = center(c, at.eps, shift, n);
      c.each([&](auto k, auto) { n[k] *= inverse; });
    }
    distance = distance_of(
        c, [&](auto k) { return f(k); }, y);
  }

  // v <- J v: linear, of f at y; otherwise M v.
  __device__ __forceinline__ void apply(bool linear) {
    if (!linear) c.each([&](auto k, auto) { v[k] *= weight[k]; });
    product.apply(c, v, v);
    real total = 0, along = 0;
    c.each([&](auto k, auto) {
      v[k] = gain[k] * (at.scale * v[k]);
      total += v[k];
      along += v[k] * n[k];
    });
    if (!at.normalised) return;
    const real mean = c.team.sum(total) / c.D;
    along = c.team.sum(along) / c.D;
    c.each([&](auto k, auto) {
      v[k] -= mean;
      if (linear) v[k] = weight[k] * inverse * (v[k] - along * n[k]);
    });
  }

  // v: the first vector: f - y, or b = C (A + S . (I - Q) delta). Returns its length.
  __device__ __forceinline__ real begin(bool linear) {
    if (linear) {
      c.each([&](auto k, auto) { v[k] = f(k) - y[k]; });
    } else {
      c.each([&](auto k, auto) { v[k] = bias[k]; });
      product.apply(c, v, v);
      c.each([&](auto k, auto) { v[k] = offset[k] + gain[k] * (at.scale * v[k]); });
      const real mean = c.sum([&](auto k) { return v[k]; }) / c.D;
      c.each([&](auto k, auto) { v[k] -= mean; });
    }
    const real length = ::sqrt(c.sum([&](auto k) { return v[k] * v[k]; }));
    shrink(length);
    return length;
  }
  __device__ __forceinline__ void shrink(real length) {
    const real part = length > 0 ? 1 / length : real(0);
    c.each([&](auto k, auto) { v[k] *= part; });
  }

  // v <- v without the first m vectors; their parts are added to column m - 1 of H. Returns the sum of the
  // parts' squares.
  __device__ __forceinline__ real orthogonalise(int m, bool again) {
    real squares = 0;
    const auto remove = [&](int i, real part) {
      krylov.put(i, m - 1, part, again);
      squares += part * part;
      c.each([&](auto k, auto) { v[k] -= part * krylov.vector(i, k); });
    };
    if constexpr (decltype(c.team)::kIsBlock) {
      for (int i = 0; i < m; ++i)
        remove(i, c.sum([&](auto k) { return v[k] * krylov.vector(i, k); }));
    } else {
      for (int first = 0; first < m; first += kSumsTogether) {
        real parts[kSumsTogether];
#pragma unroll
        for (int i = 0; i < kSumsTogether; ++i) {
          parts[i] = 0;
          if (first + i < m)
            c.each([&](auto k, auto) { parts[i] += v[k] * krylov.vector(first + i, k); });
        }
        const real own = sums_of(parts);
#pragma unroll 4
        for (int i = 0; i < kSumsTogether && first + i < m; ++i)
          remove(first + i, __shfl_sync(kAllLanes, own, 2 * i));
      }
    }
    return squares;
  }

  // v, the newest vector, becomes vector m - 1 of the basis, and v the next. Returns whether it is new.
  __device__ __forceinline__ bool extend(bool linear, int m) {
    c.each([&](auto k, auto) { krylov.vector(m - 1, k) = v[k]; });
    apply(linear);
    real before = 0, left = 0;
    for (int round = 0; round < 2; ++round) {
      const real removed = orthogonalise(m, round > 0);
      left = c.sum([&](auto k) { return v[k] * v[k]; });
      if (round == 0) before = left + removed;
      if (left > static_cast<real>(0.01) * (left + removed)) break;
    }
    krylov.next = ::sqrt(left);
    krylov.put(m, m - 1, krylov.next);
    shrink(krylov.next);
    return krylov.next > static_cast<real>(kDouble ? 1e-14 : 1e-6) * ::sqrt(before);
  }

  // y <- where the equation in Krylov's space is solved; false: there is no such space.
  __device__ __forceinline__ bool leap(bool linear, int most, int32_t& count) {
    krylov.start = begin(linear);
    if (most > at.max_iterations - count - 2) most = at.max_iterations - count - 2;
    if (!(krylov.start > 0) || most < 1) return false;
    if (!linear) ++count;
    Section section{};
    int m = 0;
    for (bool ends = false; !ends;) {
      ++m;
      ends = !extend(linear, m) || m == most;
      ++count;
      if (!ends && !FPRNN_KRYLOV_LOOKS(m)) continue;
      bool solved = false;
      if (linear) {
        section = solve_section(krylov, m, 1);
        solved = missing(krylov, m, section) <= within();
      } else {
        section = secular(krylov, m, static_cast<real>(c.D), at.eps, within(), ends, solved);
      }
      ends = ends || solved;
    }
    write(linear, m, section);
    return true;
  }

  // y + V c, no further than f is long, or delta + gamma . V c with the n that has the length for sigma.
  __device__ __forceinline__ void write(bool linear, int m, const Section& section) {
    const real D = static_cast<real>(c.D), length = ::sqrt(section.squares), t = section.t;
    real factor = krylov.start / t;
    if (linear) {
      const real most = distance.size * ::sqrt(D) / length;
      if (!(magnitude(factor) < most) && at.normalised) factor = t < 0 ? -most : most;
    } else {
      const real part = 1 - at.eps / (section.sigma * section.sigma);
      factor = ::sqrt(D * (part > 0 ? part : real(0))) / length * (t < 0 ? real(-1) : real(1));
    }
    c.each([&](auto k, auto) { v[k] = 0; });
    for (int i = 0; i < m; ++i) {
      const real part = factor * krylov.c[i];
      c.each([&](auto k, auto) { v[k] += part * krylov.vector(i, k); });
    }
    c.each([&](auto k, auto) { y[k] = linear ? y[k] + v[k] : weight[k] * v[k] + bias[k]; });
  }
};

// y from 0 on, to the tolerance as in ops/kronecker_solve.h; returns how many products that took. f and v
// are working space.
template <class Channels, class Product, class In, class Krylov, class Vector>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const In& offset, const In& gain,
                                                     const In& weight, const In& bias,
                                                     Krylov& krylov, Vector& y, Vector& f,
                                                     Vector& v) {
  return KroneckerEquation<Channels, Product, In, Krylov, Vector>{
      at, c, product, offset, gain, weight, bias, krylov, y, f, v, 0}
      .solve();
}
template <class Channels, class Product, int C>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const real (&offset)[C], const real (&gain)[C],
                                                     const real (&weight)[C], const real (&bias)[C],
                                                     real (&y)[C], real (&f)[C], real (&v)[C]) {
  KrylovInThread<C> krylov;
  return kronecker_iterate(at, c, product, offset, gain, weight, bias, krylov, y, f, v);
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
    const Distance distance = distance_of(
        c, [&](auto k) { return f[k]; }, v);
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
