#include <fprnn/core/vector_math.h>
#include <fprnn/ops/kronecker.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA {

namespace {

// One token's factor on its way from k to K: everything backward needs again. All matrices are (m,
// m). Where squares of S = E E^T overflow, or underflow and eps is smaller still, E stands for E
// times a power of two, and its products for theirs.
struct Factor {
  int64_t m;
  real eps;        // as it is given
  real* e;         // E
  real* e_t;       // E^T
  real* s;         // E E^T
  real* k;         // normalised: K
  real* length;    // (m): of the rows of s
  real* work;      // a matrix of working space
  real* iterates;  // (1 + 2 kPowerIterations, m): the vectors of the power iteration
  real sigma;      // K was divided by sigma + sigma_eps, or 0
  real power;      // of two, that E was multiplied by
  real row_eps, sigma_eps;

  FPRNN_INLINE real* iterate(int64_t i) const { return iterates + i * m; }
};

FPRNN_INLINE real length_of(const real* x, int64_t m) { return square_root(inner(m, x, x)); }
FPRNN_INLINE real at_least_eps(real x, real eps) { return x <= eps ? eps : x; }

FPRNN_INLINE void fill_triangles(Factor& f, const real* k) {
  for (int64_t i = 0; i < f.m; ++i)
    for (int64_t j = 0; j < f.m; ++j) f.e[i * f.m + j] = f.e_t[j * f.m + i] = j < i ? 0 : *k++;
}

// S = E E^T and its rows' lengths. Returns whether their squares may be added up, and the squares
// of what K makes of a unit vector.
FPRNN_INLINE bool make_lengths(Factor& f) {
  constexpr real kMost = kMostOfFourth * kMostOfFourth * kMostOfFourth, kLeast = 1 / kMost;
  const int64_t m = f.m;
  bool sound = true;
  small_product(f.e, m, 1, f.e_t, f.s, m, m, m);
  for (int64_t i = 0; i < m; ++i) {
    f.length[i] = length_of(f.s + i * m, m);
    sound &= f.length[i] <= kMost && (f.length[i] >= kLeast || f.eps >= kLeast);
  }
  return sound;
}

FPRNN_INLINE void multiply_by_power(Factor& f, KroneckerNorm norm) {
  real size = square_root(f.eps);
  for (int64_t i = 0; i < f.m * f.m; ++i) {
    const real element = f.e[i] < 0 ? -f.e[i] : f.e[i];
    if (element > size) size = element;
  }
  f.power = inverse_power_of_two(size);
  for (int64_t i = 0; i < f.m * f.m; ++i) {
    f.e[i] *= f.power;
    f.e_t[i] *= f.power;
  }
  f.row_eps = at_least_eps(f.eps * f.power * f.power, kLeastNormal);
  if (norm == KroneckerNorm::spectral) f.sigma_eps = f.row_eps;
}

// to <- nrm(K x); returns |K x|.
FPRNN_INLINE real power_step(const Factor& f, const real* x, real* to) {
  for (int64_t i = 0; i < f.m; ++i) to[i] = inner(f.m, f.k + i * f.m, x);
  const real length = length_of(to, f.m), scale = 1 / at_least_eps(length, f.sigma_eps);
  for (int64_t i = 0; i < f.m; ++i) to[i] *= scale;
  return length;
}

// v = (1, ..., 1) / sqrt(m); eight times u = nrm(K v), v = nrm(K u); sigma = u . K v.
FPRNN_INLINE void spectral_normalize(Factor& f) {
  const int64_t m = f.m, last = 2 * kPowerIterations;
  for (int64_t i = 0; i < m; ++i) f.iterate(0)[i] = 1 / square_root(static_cast<real>(m));
  for (int64_t i = 0; i < last; ++i) power_step(f, f.iterate(i), f.iterate(i + 1));
  f.sigma = 0;
  for (int64_t i = 0; i < m; ++i)
    f.sigma += f.iterate(last - 1)[i] * inner(m, f.k + i * m, f.iterate(last));
  const real scale = 1 / (f.sigma + f.sigma_eps);
  for (int64_t i = 0; i < m * m; ++i) f.k[i] *= scale;
}

FPRNN_INLINE void make_factor(Factor& f, const real* k, KroneckerNorm norm) {
  const int64_t m = f.m;
  fill_triangles(f, k);
  f.power = 1;
  f.row_eps = f.sigma_eps = f.eps;
  if (!make_lengths(f)) [[unlikely]] {
    multiply_by_power(f, norm);
    make_lengths(f);
  }
  for (int64_t i = 0; i < m; ++i) {
    const real scale =
        norm == KroneckerNorm::spectral ? 1 : 1 / at_least_eps(f.length[i], f.row_eps);
    for (int64_t j = 0; j < m; ++j) f.k[i * m + j] = scale * f.s[i * m + j];
  }
  f.sigma = 0;
  if (norm != KroneckerNorm::row) spectral_normalize(f);
}

// d (m, m): the cotangent of K divided by sigma + eps on entry, of the undivided K on return.
FPRNN_INLINE void spectral_backward(Factor& f, real* d) {
  const int64_t m = f.m, last = 2 * kPowerIterations;
  const real scale = f.sigma + f.sigma_eps;
  real dsigma = 0;
  for (int64_t i = 0; i < m * m; ++i) {
    dsigma -= d[i] * f.k[i] / scale;
    d[i] /= scale;
    f.k[i] *= scale;  // the undivided K again, which the iteration used
  }
  // sigma = u . K v with u and v the last two iterates.
  real* du = f.work;          // cotangent of iterate i - 1 in the loop below
  real* dv = f.work + m;      // of iterate i
  real* dx = f.work + 2 * m;  // of K times iterate i - 1
  const real* u = f.iterate(last - 1);
  const real* v = f.iterate(last);
  for (int64_t j = 0; j < m; ++j) dv[j] = 0;
  for (int64_t i = 0; i < m; ++i) {
    du[i] = dsigma * inner(m, f.k + i * m, v);
    for (int64_t j = 0; j < m; ++j) {
      dv[j] += dsigma * u[i] * f.k[i * m + j];
      d[i * m + j] += dsigma * u[i] * v[j];
    }
  }
  for (int64_t step = last; step > 0; --step) {
    // iterate(step) = nrm(x), x = K iterate(step - 1).
    const real* y = f.iterate(step);
    const real* before = f.iterate(step - 1);
    real length = 0;
    for (int64_t i = 0; i < m; ++i) {
      const real x = inner(m, f.k + i * m, before);
      length += x * x;
    }
    length = square_root(length);
    const real along = length > f.sigma_eps ? inner(m, dv, y) : 0;
    for (int64_t i = 0; i < m; ++i)
      dx[i] = (dv[i] - along * y[i]) / at_least_eps(length, f.sigma_eps);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < m; ++j) {
        d[i * m + j] += dx[i] * before[j];
        du[j] += dx[i] * f.k[i * m + j];
      }
    real* swap = dv;  // the iterate before becomes the current one
    dv = du;
    du = swap;
    for (int64_t i = 0; i < m; ++i) du[i] = 0;
  }
}

// d: the cotangent of K on entry; working space afterwards.
FPRNN_INLINE void factor_backward(Factor& f, KroneckerNorm norm, real* d, real* dk) {
  const int64_t m = f.m;
  if (norm != KroneckerNorm::row) spectral_backward(f, d);
  if (norm != KroneckerNorm::spectral)
    for (int64_t i = 0; i < m; ++i) {  // rows: d <- (d - K (K . d)) / length
      real* row = d + i * m;
      const real* unit = f.k + i * m;
      const real along = f.length[i] > f.row_eps ? inner(m, unit, row) : 0;
      const real scale = 1 / at_least_eps(f.length[i], f.row_eps);
      for (int64_t j = 0; j < m; ++j) row[j] = scale * (row[j] - along * unit[j]);
    }
  // S = E E^T: dE = (d + d^T) E.
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = i; j < m; ++j) d[i * m + j] = d[j * m + i] = d[i * m + j] + d[j * m + i];
  small_product(d, m, 1, f.e, f.work, m, m, m);
  if (f.power != 1)
    for (int64_t i = 0; i < m * m; ++i) f.work[i] *= f.power;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = i; j < m; ++j) *dk++ = f.work[i * m + j];
}

FPRNN_INLINE Factor factor_in(real* scratch, int64_t m, real eps) {
  Factor f{};
  f.m = m;
  f.eps = eps;
  f.e = scratch;
  f.e_t = scratch + m * m;
  f.s = scratch + 2 * m * m;
  f.k = scratch + 3 * m * m;
  f.work = scratch + 4 * m * m;  // at least 3 m long
  f.length = f.work + (m > 3 ? m * m : 3 * m);
  f.iterates = f.length + m;
  return f;
}

}  // namespace

// Reals of working space of the two functions below.
int64_t kronecker_factor_scratch(int64_t m) {
  return 6 * m * m + (3 + 1 + 1 + 2 * kPowerIterations) * m;
}

void kronecker_factor_forward(const KroneckerFactorForward& args, real* scratch, int64_t begin,
                              int64_t end) {
  const int64_t m = args.m;
  Factor f = factor_in(scratch, m, args.eps);
  for (int64_t token = begin; token < end; ++token) {
    const real* g = args.gates + token * args.gate_stride;
    real* out = args.factor + token * m * m;
    make_factor(f, args.k + token * args.k_stride, args.norm);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < m; ++j)
        out[args.transposed ? j * m + i : i * m + j] = g[i] * f.k[i * m + j];
  }
}

void kronecker_factor_backward(const KroneckerFactorBackward& args, real* scratch, int64_t begin,
                               int64_t end) {
  const KroneckerFactorForward& in = args.forward;
  const int64_t m = in.m;
  real* d = scratch;  // the cotangent of K
  Factor f = factor_in(scratch + m * m, m, in.eps);
  for (int64_t token = begin; token < end; ++token) {
    const real* g = in.gates + token * in.gate_stride;
    const real* dout = args.dfactor + token * m * m;
    make_factor(f, in.k + token * in.k_stride, in.norm);
    if (in.transposed)
      small_transpose(dout, d, m, m);
    else
      for (int64_t i = 0; i < m * m; ++i) d[i] = dout[i];
    for (int64_t i = 0; i < m; ++i) {
      args.dgates[token * in.gate_stride + i] = inner(m, d + i * m, f.k + i * m);
      for (int64_t j = 0; j < m; ++j) d[i * m + j] *= g[i];
    }
    factor_backward(f, in.norm, d, args.dk + token * in.k_stride);
  }
}

void kronecker_forward(const KroneckerForward& args, real* scratch, int64_t begin, int64_t end) {
  const int64_t m1 = args.m1, m2 = args.m2, D = m1 * m2;
  real* left_x = scratch;  // left^T X
  real* product = scratch + D;
  for (int64_t token = begin; token < end; ++token) {
    const real* x = args.v + token * D;
    small_product(args.left + token * m1 * m1, 1, m1, x, left_x, m1, m1, m2);
    small_product(left_x, m2, 1, args.right + token * m2 * m2, product, m1, m2, m2);
    for_lanes(D, [&](int64_t i, auto lanes) {
      lanes.store(args.y + token * D + i, lanes.load(x + i) - args.scale * lanes.load(product + i));
    });
  }
}

// Y = left^T X right and y = v - scale Y. With Z = dY right^T:
//   dX = left Z,   dleft = X Z^T,   dright = (left^T X)^T dY,   dv = dy + dX.
void kronecker_backward(const KroneckerBackward& args, real* scratch, int64_t begin, int64_t end) {
  const KroneckerForward& in = args.forward;
  const int64_t m1 = in.m1, m2 = in.m2, D = m1 * m2;
  real* left_x = scratch;
  real* dproduct = left_x + D;
  real* z = dproduct + D;
  real* z_t = z + D;
  real* right_t = z_t + D;
  for (int64_t token = begin; token < end; ++token) {
    const real* left = in.left + token * m1 * m1;
    const real* x = in.v + token * D;
    const real* dy = args.dy + token * D;
    real* dv = args.dv + token * D;
    for (int64_t i = 0; i < D; ++i) dproduct[i] = -in.scale * dy[i];
    small_transpose(in.right + token * m2 * m2, right_t, m2, m2);
    small_product(dproduct, m2, 1, right_t, z, m1, m2, m2);
    small_transpose(z, z_t, m1, m2);
    small_product(left, 1, m1, x, left_x, m1, m1, m2);
    small_product(x, m2, 1, z_t, args.dleft + token * m1 * m1, m1, m2, m1);
    small_product(left_x, 1, m2, dproduct, args.dright + token * m2 * m2, m2, m1, m2);
    small_product(left, m1, 1, z, dv, m1, m1, m2);
    for (int64_t i = 0; i < D; ++i) dv[i] += dy[i];
  }
}

}  // namespace fprnn::FPRNN_ISA
