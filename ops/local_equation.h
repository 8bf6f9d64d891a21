// The local equation of a mixer of rank r brought down to r numbers, with the names of
// ops/fp_mamba_solve.md, for kernel files: one token's vectors, and what they say about those
// numbers, in double.
#pragma once

#include <fprnn/core/simd.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/norm_statistics.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA::local {

// As many doubles as a register holds.
typedef double Wide __attribute__((vector_size(FPRNN_VECTOR_BYTES)));
typedef int64_t WideMask __attribute__((vector_size(FPRNN_VECTOR_BYTES)));
inline constexpr int64_t kWide = FPRNN_VECTOR_BYTES / sizeof(double);

// What is r or r x r of one token, on the stack for small r.
template <int64_t R>
struct Numbers {
  static constexpr int64_t r = R;
  double m[R * R];                 // M
  double square[R * R], cross[R];  // W^T W / D, W^T A / D
  double p1[R * R], p0[R], e[R];   // F = (p0 + p1 beta) / sigma + e
  double beta[R], f[R];            // f = F(beta)
  double from[R], change[R];       // coefficients of y and of its change, or means
  double before[R];                // f - beta an iteration ago
  Wide system[R * R], right[R];    // sigma - P1 and what it is to give, for several sigma
  double mean = 0, variance = 0;   // A's, and |A|^2 / D + eps of what is centred
  double inverse = 0, next = 0;    // 1 / sigma, of beta and of f
  FPRNN_INLINE Numbers(int64_t, real*) {}
};

template <>
struct Numbers<0> {
  int64_t r;
  double *m, *square, *p1, *cross, *p0, *e, *beta, *f, *from, *change, *before;
  Wide *system, *right;
  double mean = 0, variance = 0, inverse = 0, next = 0;
  FPRNN_INLINE Numbers(int64_t r, real* begin) : r(r) {
    system = reinterpret_cast<Wide*>(begin), right = system + r * r;
    double* space = reinterpret_cast<double*>(right + r);
    double** const matrices[] = {&m, &square, &p1};
    double** const vectors[] = {&cross, &p0, &e, &beta, &f, &from, &change, &before};
    for (double** matrix : matrices) *matrix = space, space += r * r;
    for (double** vector : vectors) *vector = space, space += r;
  }
};

// Reals of working space that Numbers needs for this r, a multiple of a register.
FPRNN_INLINE int64_t numbers_space(int64_t r) {
  const int64_t wide = (r + 1) * r + ((3 * r + 8) * r + kWide - 1) / kWide;
  return r <= 4 ? 0 : wide * kLanes;
}

// One token's part of the contract, and its working space.
struct Token {
  const real *u, *alpha, *offset, *gain;
  real* w;  // (r, D): W^T
  real* a;  // (D): A
  FPRNN_INLINE Token(const LocalMap& map, int64_t token, real* rows)
      : u(map.u + token * map.r * map.D),
        alpha(map.alpha + token * map.r),
        offset(map.offset + token * map.D),
        gain(map.gain + token * map.D),
        w(rows),
        a(rows + map.r * map.D) {}
};

// start + sum_j coefficients[j] rows[j], at d.
template <class Lanes>
FPRNN_INLINE Vec combine(Vec start, const real* rows, const double* coefficients, int64_t r,
                         int64_t D, int64_t d, Lanes lanes) {
  for (int64_t j = 0; j < r; ++j)
    start += static_cast<real>(coefficients[j]) * lanes.load(rows + j * D + d);
  return start;
}

// b <- matrix^-1 b, by elimination with the largest of a column its pivot, for a double or a vector
// of them; infinite or NaN if that is singular. Returns whether the determinant is negative.
template <class T>
FPRNN_INLINE auto eliminate(T* matrix, T* b, int64_t r) {
  const auto at = [=](int64_t i, int64_t j) -> T& { return matrix[i * r + j]; };
  auto negative = T{} < T{};
  for (int64_t k = 0; k < r; ++k) {
    for (int64_t i = k + 1; i < r; ++i) {
      const T upper = at(k, k), lower = at(i, k);
      const auto turned = (lower < 0 ? -lower : lower) > (upper < 0 ? -upper : upper);
      const auto order = [=](T& x, T& y) {
        const T kept = x;
        x = turned ? y : x;
        y = turned ? kept : y;
      };
      for (int64_t j = k; j < r; ++j) order(at(k, j), at(i, j));
      order(b[k], b[i]);
      negative ^= turned;
    }
    const T pivot = at(k, k);
    negative ^= pivot < 0;
    at(k, k) = 1 / pivot;
    for (int64_t i = k + 1; i < r; ++i) {
      const T factor = at(i, k) * at(k, k);
      for (int64_t j = k + 1; j < r; ++j) at(i, j) -= factor * at(k, j);
      b[i] -= factor * b[k];
    }
  }
  for (int64_t k = r - 1; k >= 0; --k) {
    for (int64_t j = k + 1; j < r; ++j) b[k] -= at(k, j) * b[j];
    b[k] *= at(k, k);
  }
  return negative;
}

// M: row i of (I + tril(U U^T, -1) diag(a)) T = I gives T_ij = -sum_{j <= k < i} (u_i . u_k) M_kj.
template <class N>
FPRNN_INLINE void make_m(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  for (int64_t i = 0; i < r; ++i) {
    const double a = static_cast<double>(map.scale) * token.alpha[i];
    for (int64_t j = 0; j < r; ++j) n.m[i * r + j] = i == j ? a : 0;
    for (int64_t k = 0; map.in_order && k < i; ++k) {
      const double factor = a * inner(D, token.u + i * D, token.u + k * D);
      for (int64_t j = 0; j <= k; ++j) n.m[i * r + j] -= factor * n.m[k * r + j];
    }
  }
}

// The rows of W and A; centred if N is a LayerNorm, with W's means from those of S . u_i.
template <class N>
FPRNN_INLINE void make_rows(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  const bool centred = map.bias != nullptr;
  const real mean_a = centred ? inner(D, token.offset) / D : 0;
  n.mean = mean_a;
  for (int64_t i = 0; i < r; ++i)
    n.change[i] = centred ? inner(D, token.gain, token.u + i * D) / double(D) : 0;
  for (int64_t j = 0; j < r; ++j) {
    double mean = 0;
    for (int64_t i = 0; i < r; ++i) {
      n.from[i] = n.m[i * r + j];
      mean += n.from[i] * n.change[i];
    }
    const real shift = static_cast<real>(mean);
    for_lanes(D, [&](int64_t d, auto lanes) {
      const Vec mixed = combine(Vec{}, token.u, n.from, r, D, d, lanes);
      lanes.store(token.w + j * D + d, lanes.load(token.gain + d) * mixed - shift);
    });
  }
  for_lanes(D, [&](int64_t d, auto lanes) {
    lanes.store(token.a + d, lanes.load(token.offset + d) - mean_a);
  });
}

// a <- a without what it still has for a mean.
template <class Map>
FPRNN_RARE void center_again(const Map& map, const Token& token) {
  const real rest = inner(map.D, token.a) / map.D;
  for_lanes(map.D, [&](int64_t d, auto lanes) {
    lanes.store(token.a + d, lanes.load(token.a + d) - rest);
  });
}
// |a|^2 / D + eps of an a that is centred where N centres.
template <class N>
FPRNN_INLINE double variance_of(const LocalMap& map, const Token& token, const N& n) {
  const auto variance = [&] { return inner(map.D, token.a, token.a) / double(map.D) + map.eps; };
  const double found = variance();
  if (!is_far(static_cast<real>(n.mean), static_cast<real>(found))) [[likely]]
    return found;
  center_again(map, token);
  return variance();
}

template <class N>
FPRNN_INLINE void make_products(const LocalMap& map, const Token& token, N& n) {
  const int64_t r = n.r, D = map.D;
  n.variance = variance_of(map, token, n);
  for (int64_t i = 0; i < r; ++i) {
    const real *u = token.u + i * D, *w = token.w + i * D;
    n.beta[i] = 0;
    n.cross[i] = inner(D, token.a, w) / double(D);
    n.p0[i] = inner(D, u, map.weight, token.a);
    n.e[i] = map.bias != nullptr ? inner(D, u, map.bias) : 0;
    for (int64_t j = 0; j <= i; ++j)
      n.square[i * r + j] = n.square[j * r + i] = inner(D, w, token.w + j * D) / double(D);
    for (int64_t j = 0; j < r; ++j) n.p1[i * r + j] = inner(D, u, map.weight, token.w + j * D);
  }
}

}  // namespace fprnn::FPRNN_ISA::local
