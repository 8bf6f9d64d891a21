// A token's equation in its Krylov space (ops/kronecker_solve.md, whose names these are), for
// kernel files: what is left of it there is one number, sigma.
#pragma once

#include <fprnn/core/simd.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA::krylov {

// A Hessenberg matrix H (m, m), from an orthonormal basis of Krylov's space, and one e_1 on the
// right.
struct Projection {
  const real* h;  // rows are `stride` apart; H's last subdiagonal element is h[m, m - 1]
  int64_t m, stride;
  real start;   // the length of the vector that the basis begins with
  real D, eps;  // |c|^2 = |n|^2 = D (1 - eps / sigma^2)
  FPRNN_INLINE real at(int64_t i, int64_t j) const { return h[i * stride + j]; }
};

inline constexpr int64_t kGroups = kKrylovSections / kLanes;
static_assert(kKrylovSections % kLanes == 0);
inline constexpr int64_t kKept = kKrylovSections - 1;  // the section that becomes the solution

// c in (sigma I - H) c = t e_1 for as many sigma as there are sections, from c_m = 1 upwards
// (Hyman). What becomes large makes all before it smaller.
struct Sections {
  real* c;  // (m, kKrylovSections)
  real sigma[kKrylovSections], t[kKrylovSections], squares[kKrylovSections];  // |c|^2

  FPRNN_INLINE void solve(const Projection& p) {
    for (int64_t group = 0; group < kGroups; ++group) solve(p, group * kLanes);
  }
  FPRNN_INLINE bool negative(int64_t k) const { return t[k] < 0; }
  // |n| / |c| - 1, whose root is wanted: where c has been infinite since a sigma with the sign
  // `negative` it is below -1, and goes through -1 where c is infinite.
  FPRNN_INLINE real value(const Projection& p, int64_t k, bool negative) const {
    const real part = 1 - p.eps / (sigma[k] * sigma[k]);
    const real ratio =
        square_root((part > 0 ? part : 0) * p.D / squares[k]) * __builtin_fabs(t[k]) / p.start;
    return ((t[k] < 0) == negative ? ratio : -ratio) - 1;
  }
  // Whether there is a root between section k - 1 and k: |c| becomes smaller than |n|.
  FPRNN_INLINE bool crosses(const Projection& p, int64_t k) const {
    return value(p, k, negative(k)) > 0 && !(value(p, k - 1, negative(k)) > 0);
  }

 private:
  FPRNN_INLINE void solve(const Projection& p, int64_t lane) {
    constexpr real kLarge = static_cast<real>(1e12);
    const Vec at = load(sigma + lane);
    real* const x = c + lane;
    store(x + (p.m - 1) * kKrylovSections, splat(1));
    for (int64_t i = p.m - 1; i >= 0; --i) {
      Vec total = at * load(x + i * kKrylovSections), more{};
      int64_t j = i;
      for (; j + 2 <= p.m; j += 2) {
        total -= p.at(i, j) * load(x + j * kKrylovSections);
        more -= p.at(i, j + 1) * load(x + (j + 1) * kKrylovSections);
      }
      if (j < p.m) total -= p.at(i, j) * load(x + j * kKrylovSections);
      total += more;
      if (i == 0) {
        store(t + lane, total);
        break;
      }
      total *= 1 / p.at(i, i - 1);
      store(x + (i - 1) * kKrylovSections, total);
      if (!(largest(magnitude(total)) > kLarge)) continue;
      const Vec smaller = select(magnitude(total) > kLarge, splat(1 / kLarge), splat(1));
      for (int64_t k = i - 1; k < p.m; ++k)
        store(x + k * kKrylovSections, smaller * load(x + k * kKrylovSections));
    }
    Vec sum{};
    for (int64_t i = 0; i < p.m; ++i) {
      const Vec value = load(x + i * kKrylovSections);
      sum += value * value;
    }
    store(squares + lane, sum);
  }
};

// n <- (b + M n) / sigma(n) in the space's coordinates, from n = 0 on: what plain steps are, as far
// as the space holds them. They go on when it has grown.
struct PlainSteps {
  real *w, *next;  // b + M n in units of |b|: `known` coordinates, the others are 0
  int64_t known = 0;
  bool began = false;

  // sigma after these steps.
  FPRNN_INLINE real go_on(const Projection& p) {
    for (int64_t i = known; i < p.m; ++i) w[i] = i == 0;
    known = p.m;
    for (int count = began ? kKrylovMore : kKrylovFirst; count > 0; --count) {
      const real inverse = 1 / sigma(p);
      for (int64_t i = 0; i < p.m; ++i) {
        const int64_t first = i == 0 ? 0 : i - 1;
        next[i] = (i == 0) + inverse * inner(p.m - first, p.h + i * p.stride + first, w + first);
      }
      real* const swap = w;
      w = next;
      next = swap;
    }
    began = true;
    return sigma(p);
  }

 private:
  FPRNN_INLINE real sigma(const Projection& p) const {
    return square_root(p.start * p.start * inner(p.m, w, w) / p.D + p.eps);
  }
};

// The equation in sigma.
struct Secular {
  Sections& sections;

  // The root next to sigma, to which plain steps have come, or the largest of all if none is near,
  // to the tolerance of y; the last section becomes its.
  FPRNN_INLINE real solve(const Projection& p, real sigma, real tolerance) {
    real low = square_root(p.eps), low_value = -1;
    int64_t k = around(p, sigma);
    if (k == 0) k = everywhere(p, low);
    const bool negative = sections.negative(k);
    real high = sections.sigma[k], high_value = sections.value(p, k, negative);
    if (k > 0) low = sections.sigma[k - 1], low_value = sections.value(p, k - 1, negative);
    const real tenth = tolerance * static_cast<real>(0.1);
    const real match = tenth > kKrylovMatch ? tenth : kKrylovMatch;
    for (int round = 0;; ++round) {
      for (k = 0; k < kKept; ++k)
        sections.sigma[k] =
            low + (high - low) * static_cast<real>(k + 1) / static_cast<real>(kKrylovSections);
      const real part = low_value / (low_value - high_value);
      sections.sigma[kKept] = low + (high - low) * (part > 0 && part < 1 ? part : real(0.5));
      sections.solve(p);
      const real value = sections.value(p, kKept, negative);
      if (__builtin_fabs(value) <= match || round == kKrylovRounds) break;
      while (k > 0 && sections.value(p, k - 1, negative) > 0) --k;
      if (k < kKept) high = sections.sigma[k], high_value = sections.value(p, k, negative);
      if (k > 0) low = sections.sigma[k - 1], low_value = sections.value(p, k - 1, negative);
    }
    return sections.sigma[kKept];
  }

 private:
  // Sections on both sides of sigma, each twice as far as the one before; the first above the
  // nearest root. 0: none.
  FPRNN_INLINE int64_t around(const Projection& p, real sigma) {
    constexpr int64_t kMiddle = kKrylovSections / 2;
    real distance = sigma * kKrylovNearest;
    for (int64_t i = 0; i < kMiddle; ++i, distance *= 2) {
      sections.sigma[kMiddle + i] = sigma + distance;
      sections.sigma[kMiddle - 1 - i] = sigma - distance;
    }
    sections.solve(p);
    for (int64_t i = 0; i < kMiddle; ++i) {
      if (sections.crosses(p, kMiddle + i)) return kMiddle + i;
      if (i < kMiddle - 1 && sections.crosses(p, kMiddle - 1 - i)) return kMiddle - 1 - i;
    }
    return 0;
  }
  // Sections from `low` to where there is no root any more; the first above the largest.
  FPRNN_INLINE int64_t everywhere(const Projection& p, real low) {
    real squares = 0;
    for (int64_t i = 0; i < p.m; ++i)
      for (int64_t j = i == 0 ? 0 : i - 1; j < p.m; ++j) squares += p.at(i, j) * p.at(i, j);
    const real high =
        square_root(squares) + static_cast<real>(1.5) * p.start / square_root(p.D) + 2 * low;
    const real ratio = static_cast<real>(
        __builtin_exp(__builtin_log(static_cast<double>(high / low)) / kKrylovSections));
    for (int64_t i = 0; i < kKrylovSections; ++i)
      sections.sigma[i] = (i == 0 ? low : sections.sigma[i - 1]) * ratio;
    sections.solve(p);
    int64_t k = kKept;
    while (k > 0 && !sections.crosses(p, k)) --k;
    return k;
  }
};

}  // namespace fprnn::FPRNN_ISA::krylov
