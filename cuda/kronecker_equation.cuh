// The equation that a token with a Kronecker mixer solves, as derived in ops/kronecker_solve.md and
// with its names:
//   y = N(A + S . ((I - Q) y))
#pragma once

#include <fprnn/cuda/krylov.cuh>
#include <fprnn/cuda/krylov_basis.cuh>
#include <fprnn/ops/norm_statistics.h>

#include <limits>

namespace fprnn::cuda {

struct KroneckerParameters {
  real scale;
  bool normalised, centred;  // whether N is a norm, and whether that is a LayerNorm
  real eps, tolerance;
  int32_t max_iterations;
};

// How far f is from y.
struct Distance {
  real difference, size;  // max |f - y|, max |f|
  __device__ __forceinline__ bool broken() const { return !(difference < INFINITY); }
  __device__ __forceinline__ real relative() const {
    return difference / (size + static_cast<real>(kResidualFloor));
  }
};
template <class Channels, class F, class Y>
__device__ __forceinline__ Distance distance_of(const Channels& c, const F& f, const Y& y) {
  real most[2]{};  // difference and size
  c.each([&](auto k, auto) {
    const real value = f(k);
    most[0] = LargerSize()(magnitude(value - y[k]), most[0]);
    most[1] = LargerSize()(magnitude(value), most[1]);
  });
  c.team.maxima(most);
  return {most[0], most[1]};
}

// x - mean and 1 / sigma of a LayerNorm, from one round of sums: x is summed from `shift` on, which
// is near its mean, and becomes it.
template <class Channels, class X>
__device__ __forceinline__ real center(const Channels& c, real eps, real& shift, X& x) {
  real sums[2]{};
  c.each([&](auto k, auto) {
    x[k] -= shift;
    sums[0] += x[k];
    sums[1] += x[k] * x[k];
  });
  c.team.sums(sums);
  const real part = real(1) / static_cast<real>(c.D), mean = sums[0] * part;
  const real variance = sums[1] * part - mean * mean;
  c.each([&](auto k, auto) { x[k] -= mean; });
  shift += mean;
  return inverse_root((variance < 0 ? real(0) : variance) + eps);
}

// 1 / sigma of RMS, which leaves x as it is.
template <class Channels, class X>
__device__ __forceinline__ real inverse_size(const Channels& c, real eps, const X& x) {
  const real squares = sum_over(c, [&](auto k) { return x[k] * x[k]; });
  return inverse_root(squares / static_cast<real>(c.D) + eps);
}

// The equation of one token: In and Vector are what a thread has of a vector.
template <class Channels, class Product, class In, class Basis, class Vector>
struct KroneckerEquation {
  const KroneckerParameters& at;
  const Channels& c;
  const Product& product;
  const In &offset, &gain, &weight, &bias;
  Basis& basis;
  Krylov<std::decay_t<decltype(c.team)>, Basis::kMost> krylov;
  Vector &y, &n,
      &v;  // n: f before weight and bias, if there is a norm; v: in the end (I - Q) y
  real shift = 0, inverse = 1;
  Distance distance{};
  // Of a product with y, and with Krylov's vectors, whose length is 1.
  typename Product::Range of_y{}, of_unit{};
  bool bounded = true;  // y by f, so by what f's weight and bias bound it by

  __device__ __forceinline__ int32_t solve() {
    of_unit = product.range(1, at.scale);
    if (at.normalised)
      of_y = product.range(largest_of([&](auto k) {
                             return LargerSize()(magnitude(weight[k]), magnitude(bias[k]));
                           }),
                           at.scale);
    const int most = c.D < Basis::kMost ? static_cast<int>(c.D) : Basis::kMost;
    int32_t count = 1;
    c.each([&](auto k, auto) { y[k] = at.normalised ? bias[k] : real(0); });
    bool linear = !at.normalised, ready = !linear;
    real last = static_cast<real>(INFINITY);
#pragma unroll 1
    for (;; ++count) {
      if (!ready) {
        evaluate();
        if (distance.broken()) {
          c.each([&](auto k, auto) { y[k] = static_cast<real>(NAN); });
          return at.max_iterations;
        }
        if (distance.difference <= within() || count >= at.max_iterations) break;
        linear = linear || !(distance.difference < last * real(0.5) ||
                             distance.difference <= kKrylovNear * distance.size);
        last = distance.difference;
      }
      // The equation in sigma first, then Newton's steps or plain ones. There is one place for all
      // leaps: the code is long.
      const bool leapt = (ready || linear) && leap(!ready, most, count);
      if (ready)
        --count;
      else if (!leapt)
        c.each([&](auto k, auto) { y[k] = f(k); });
      ready = false;
    }
    return count < at.max_iterations ? count : at.max_iterations;
  }

 private:
  template <class K>
  __device__ __forceinline__ real f(K k) const {
    return at.normalised ? weight[k] * n[k] + bias[k] : n[k];
  }
  __device__ __forceinline__ real within() const {
    return at.tolerance * (distance.size + static_cast<real>(kResidualFloor));
  }

  __device__ __forceinline__ void evaluate() {
    if (!at.normalised || !bounded)
      of_y = product.range(largest_of([&](auto k) { return y[k]; }), at.scale);
    product.apply(y, v, of_y);
    c.each([&](auto k, auto) { n[k] = offset[k] + gain[k] * v[k]; });
    if (at.normalised) {
      inverse = at.centred ? center(c, at.eps, shift, n) : inverse_size(c, at.eps, n);
      c.each([&](auto k, auto) { n[k] *= inverse; });
    }
    distance = distance_of(
        c, [&](auto k) { return f(k); }, y);
  }

  // v <- J v: linear, of f at y; otherwise M v before C.
  __device__ __forceinline__ void apply(bool linear) {
    if (!linear) c.each([&](auto k, auto) { v[k] *= weight[k]; });
    product.apply(v, v, linear ? of_unit : of_y);
    c.each([&](auto k, auto) { v[k] *= gain[k]; });
    if (!linear || !at.normalised) return;
    real sums[2]{};
    c.each([&](auto k, auto) {
      sums[0] += v[k];
      sums[1] += v[k] * n[k];
    });
    c.team.sums(sums);
    const real mean = at.centred ? sums[0] / c.D : real(0), along = sums[1] / c.D;
    c.each([&](auto k, auto) { v[k] = weight[k] * inverse * (v[k] - mean - along * n[k]); });
  }

  // v: the first vector: f - y, or b = C (A + S . (I - Q) delta). Returns its length.
  __device__ __forceinline__ real begin(bool linear) {
    if (linear) {
      c.each([&](auto k, auto) { v[k] = f(k) - y[k]; });
    } else {
      c.each([&](auto k, auto) { v[k] = bias[k]; });
      product.apply(v, v, of_y);
      c.each([&](auto k, auto) { v[k] = offset[k] + gain[k] * v[k]; });
      shift = 0;
      if (at.centred) subtract_mean();
    }
    const auto squares_of_v = [&] { return sum_over(c, [&](auto k) { return v[k] * v[k]; }); };
    real squares = squares_of_v();
    if (!linear && is_far(shift, squares / c.D + at.eps)) [[unlikely]] {
      subtract_mean();
      squares = squares_of_v();
    }
    const real length = ::sqrt(squares);
    const real part = length > 0 ? 1 / length : real(0);
    c.each([&](auto k, auto) { v[k] *= part; });
    // f at n = 0 tells how large f is, before any is known.
    if (!linear)
      distance.size =
          largest_of([&](auto k) { return bias[k] + ::sqrt(real(c.D)) * weight[k] * v[k]; });
    return length;
  }
  // v <- v without its mean, which goes to shift.
  __device__ __forceinline__ void subtract_mean() {
    const real mean = sum_over(c, [&](auto k) { return v[k]; }) / c.D;
    c.each([&](auto k, auto) { v[k] -= mean; });
    shift += mean;
  }
  // The largest |term(k)| of the team's channels.
  template <class Term>
  __device__ __forceinline__ real largest_of(const Term& term) const {
    real most = 0;
    c.each([&](auto k, auto) { most = LargerSize()(magnitude(term(k)), most); });
    return c.team.largest(most);
  }

  static constexpr real kLeast = std::numeric_limits<real>::min();
  struct Squares {
    real whole, before, left;  // of v, of C v, and of what is orthogonal to the basis
  };
  // v <- v without the first m vectors, whose parts go to column m - 1 of H, and without its mean
  // where N is centred, which those vectors do not have. So many vectors and v's sums go through
  // one exchange; there are more of them seldom. again: v has been here.
  template <int kVectors>
  __device__ __forceinline__ Squares orthogonalise(int m, bool centred, bool again) {
    real parts[kVectors + 2];
    basis.template dots<kVectors>(c, Constant<0>(), m, v, parts);
    parts[kVectors] = parts[kVectors + 1] = 0;
    c.each([&](auto k, auto) {
      parts[kVectors] += v[k] * v[k];
      parts[kVectors + 1] += v[k];
    });
    const real own = c.team.sums_apart(parts), total = value<kVectors>(own, kVectors + 1);
    const real mean = centred ? total / c.D : real(0);
    Squares squares{.whole = value<kVectors>(own, kVectors), .before = 0, .left = 0};
    squares.before = squares.whole - mean * (centred ? total : real(0));
    c.each([&](auto k, auto) { v[k] -= mean; });
    real removed = remove<kVectors>(Constant<0>(), m, own, again);
    if constexpr (kVectors == kVectorsTogether)
#pragma unroll 1
      for (int first = kVectors; first < m; first += kFewVectors) {
        real few[kFewVectors + 2];
        basis.template dots<kFewVectors>(c, first, m, v, few);
        few[kFewVectors] = few[kFewVectors + 1] = 0;
        removed += remove<kFewVectors>(first, m, c.team.sums_apart(few), again);
      }
    squares.left = squares.before - removed;
    return squares;
  }
  // Sum i of those of which a lane has its own.
  template <int kVectors>
  __device__ __forceinline__ real value(real own, int i) const {
    return __shfl_sync(kAllLanes, own, i * (kWarp / (kVectors + 2)));
  }
  // Vectors from `first` on, v's products with which are the lanes' own. Returns the square of what goes.
  template <int kVectors, class First>
  __device__ __forceinline__ real remove(First first, int m, real own, bool again) {
    constexpr int kLanes = kWarp / (kVectors + 2);
    real removed = 0;
    basis.template add<kVectors>(
        c, first, m,
        [&](int i) {
          const real part = value<kVectors>(own, i);
          removed += part * part;
          return -part;
        },
        v);
    const int i = c.team.lane() / kLanes;
    if (c.team.warp() == 0 && c.team.lane() % kLanes == 0 && i < kVectors && first + i < m) {
      real& h = krylov.at(first + i, m - 1);
      h = again ? h + own : own;
    }
    return removed;
  }

  // v, the newest vector, becomes vector m - 1 of the basis, and v the next. Returns whether it is
  // new. Once more where little is left, which is the difference of large numbers; so is its
  // square.
  __device__ __forceinline__ bool extend(bool linear, int m) {
    basis.put(c, m - 1, v);
    apply(linear);
    real before = 0, left = 0;
#pragma unroll 1
    for (bool again = false;; again = true) {
      const Squares squares = m <= kFewVectors
                                  ? orthogonalise<kFewVectors>(m, at.centred, again)
                                  : orthogonalise<kVectorsTogether>(m, at.centred, again);
      if (!again) before = squares.before;
      left = squares.left;
      if (!(left > squares.whole * static_cast<real>(0.1)))
        left = sum_over(c, [&](auto k) { return v[k] * v[k]; });
      if (again || left > squares.before * static_cast<real>(0.01)) break;
    }
    krylov.squares += before;
    const real inverse = left > kLeast ? inverse_root(left) : real(0);
    krylov.next = left * inverse;
    if (c.team.rank == 0 && m < Basis::kMost) {
      if (m % krylov.B != 0) krylov.at(m, m - 1) = krylov.next;
      krylov.inverse[m] = inverse;
    }
    c.each([&](auto k, auto) { v[k] *= inverse; });
    return left > static_cast<real>(kDouble ? 1e-28 : 1e-12) * before;
  }

  // y <- where the equation in Krylov's space is solved; false: there is no such space.
  __device__ __forceinline__ bool leap(bool linear, int most, int32_t& count) {
    const real length = begin(linear);
    if (most > at.max_iterations - count - 2) most = at.max_iterations - count - 2;
    if (!(length > 0) || most < 1) return false;
    basis.clear();
    krylov.begin(length);
    if (!linear) ++count;
    const real tenth = static_cast<real>(0.1) * at.tolerance;
    Section section{};
    int m = 0, look = kKrylovLook;
#pragma unroll 1
    for (bool ends = false; !ends;) {
      ++m;
      ends = !extend(linear, m) || m == most;
      ++count;
      if (!ends && m < look) continue;
      const real largest = largest_of([&](auto k) { return linear ? v[k] : weight[k] * v[k]; });
      c.team.sync();  // H is whole
      const PlainSteps steps = linear ? PlainSteps{1, 0} : krylov.go_on(m);
      // What the projected equation leaves of the whole one, over what it may.
      real left =
          linear ? real(0)
                 : krylov.missing(steps.last, largest) / (steps.sigma * steps.sigma * within());
      if (ends || !(left > kKrylovHope)) {
        section = krylov.root(m, linear, steps.sigma, tenth > kKrylovMatch ? tenth : kKrylovMatch);
        left = krylov.missing(section.last, largest) / (section.sigma * within());
        ends = ends || left <= 1;
      }
      for (look = m + 1; left > 2 && look < m + kKrylovLook; left *= real(0.5)) ++look;
    }
    write(linear, m, section);
    return true;
  }

  // y + V c, no further than f is long, or delta + gamma . V c with the n that has the length for
  // sigma.
  __device__ __forceinline__ void write(bool linear, int m, const Section& section) {
    const real D = static_cast<real>(c.D), length = ::sqrt(section.squares);
    real factor = krylov.start;
    if (linear) {
      bounded = false;
      const real most = distance.size * ::sqrt(D) / length;
      if (!(factor < most) && at.normalised) factor = most;
    } else {
      const real part = 1 - at.eps / (section.sigma * section.sigma);
      factor = ::sqrt(D * (part > 0 ? part : real(0))) / length;
    }
    c.each([&](auto k, auto) { v[k] = 0; });
    const auto add = [&](auto count, auto first) {
      basis.template add<count>(
          c, first, m,
          [&](int i) { return first + i < m ? factor * krylov.c[first + i] : real(0); }, v);
    };
    add(Constant<kVectorsTogether>(), Constant<0>());
#pragma unroll 1
    for (int first = kVectorsTogether; first < m; first += kFewVectors)
      add(Constant<kFewVectors>(), first);
    c.each([&](auto k, auto) { y[k] = linear ? y[k] + v[k] : weight[k] * v[k] + bias[k]; });
  }
};

// y to the tolerance as in ops/kronecker_solve.h; returns how many products that took. v becomes
// (I - Q) y; f is working space, krylov too: Krylov<T, Basis::kMost>::kSpace reals.
template <class Channels, class Product, class In, class Basis, class Vector>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const In& offset, const In& gain,
                                                     const In& weight, const In& bias, Basis& basis,
                                                     real* krylov, Vector& y, Vector& f,
                                                     Vector& v) {
  return KroneckerEquation<Channels, Product, In, Basis, Vector>{
      at,     c,     product,
      offset, gain,  weight,
      bias,   basis, {c.team, static_cast<real>(c.D), at.eps, krylov},
      y,      f,     v}
      .solve();
}

// The same with the team's vectors in C registers a thread; space: kEquationSpace reals of shared memory.
template <class T, int C>
using BasisOf = NearBasis<T, krylov_most(C* T::kSize), C>;
template <class T, int C>
inline constexpr int kEquationSpace =
    BasisOf<T, C>::kShared + Krylov<T, BasisOf<T, C>::kMost>::kSpace;
template <class Channels, class Product, int C>
__device__ __forceinline__ int32_t kronecker_iterate(const KroneckerParameters& at,
                                                     const Channels& c, const Product& product,
                                                     const real (&offset)[C], const real (&gain)[C],
                                                     const real (&weight)[C], const real (&bias)[C],
                                                     real (&y)[C], real (&v)[C], real* space) {
  using Basis = BasisOf<std::decay_t<decltype(c.team)>, C>;
  typename Basis::Far far;
  Basis basis{far, reinterpret_cast<Quad*>(space) + c.team.rank, {}};
  real f[C]{};
#pragma unroll
  for (int k = 0; k < C; ++k) v[k] = 0;  // beyond the last channel, as all of a basis is
  return kronecker_iterate(at, c, product, offset, gain, weight, bias, basis,
                           space + Basis::kShared, y, f, v);
}

}  // namespace fprnn::cuda
