// The local equation y = N(A + S . ((I - Q) y)) of a mixer of rank r and its adjoint by one warp, with
// the names of ops/fp_mamba_solve.md. Vectors are spread over the lanes as in fp_mamba_token.cuh, and
// are 0 beyond the last channel; what is r or r x r every lane has for itself, in double as on the
// CPU, and the same bits, so all lanes go the same way.
//
// The functions see arrays that are indexed by rank and channel of the lane. For small sizes they are
// registers; for any other they lie in memory (Strided), the same code with longer loops.
#pragma once

#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn::cuda {

struct LocalParameters {
  int64_t D;
  real scale;
  bool in_order;    // householder; false: dplr
  bool normalised;  // whether N is a LayerNorm
  real eps, tolerance;
  int64_t max_iterations;
};

// Element i of a lane's array whose neighbours in memory are the other lanes' elements i.
template <class T>
struct Strided {
  T* first;
  __device__ T& operator[](int64_t i) const { return first[i * kWarp]; }
};
template <class T>
struct StridedRows {
  T* first;
  int64_t columns;
  __device__ Strided<T> operator[](int64_t i) const { return {first + i * columns * kWarp}; }
};

// u (r, C), alpha (r), and A, S, gamma, delta (C).
template <class Rows, class Ranks, class Row>
struct LocalVectors {
  const Rows& u;
  const Ranks& alpha;
  const Row &offset, &gain, &weight, &bias;
};

// Working space for rank R and C channels a lane.
template <int R, int C>
struct LocalSpace {
  static constexpr int r = R, c = C;
  real w[R][C];  // W^T
  real a[C];     // A
  double m[R][R], square[R][R], p1[R][R];
  double cross[R], p0[R], e[R], beta[R], f[R], from[R], change[R], before[R];
  double variance = 0, inverse = 0;
};
template <>
struct LocalSpace<0, 0> {
  int64_t r, c;
  StridedRows<real> w;
  Strided<real> a;
  StridedRows<double> m, square, p1;
  Strided<double> cross, p0, e, beta, f, from, change, before;
  double variance = 0, inverse = 0;
};

namespace local {

template <class Space, class... Rows>
__device__ __forceinline__ real inner(const Space& n, const Rows&... rows) {
  real total = 0;
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) total += (rows[k] * ...);
  return warp_sum(total);
}

// sum_j coefficients[j] rows[j][k].
template <class Space, class Rows, class Coefficients>
__device__ __forceinline__ real combine(const Space& n, const Rows& rows,
                                        const Coefficients& coefficients, int64_t k) {
  real total = 0;
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) total += static_cast<real>(coefficients[j]) * rows[j][k];
  return total;
}

// b <- matrix^-1 b by elimination, the largest of a column its pivot.
template <class Space, class Matrix, class Column>
__device__ __forceinline__ void eliminate(const Space& n, Matrix& matrix, Column& b) {
  const auto swap = [](double& x, double& y) {
    const double kept = x;
    x = y, y = kept;
  };
#pragma unroll
  for (int64_t k = 0; k < n.r; ++k) {
#pragma unroll
    for (int64_t i = k + 1; i < n.r; ++i)
      if (::fabs(matrix[i][k]) > ::fabs(matrix[k][k])) {
#pragma unroll
        for (int64_t j = k; j < n.r; ++j) swap(matrix[k][j], matrix[i][j]);
        swap(b[k], b[i]);
      }
#pragma unroll
    for (int64_t i = k + 1; i < n.r; ++i) {
      const double factor = matrix[i][k] / matrix[k][k];
#pragma unroll
      for (int64_t j = k + 1; j < n.r; ++j) matrix[i][j] -= factor * matrix[k][j];
      b[i] -= factor * b[k];
    }
  }
#pragma unroll
  for (int64_t k = n.r - 1; k >= 0; --k) {
#pragma unroll
    for (int64_t j = k + 1; j < n.r; ++j) b[k] -= matrix[k][j] * b[j];
    b[k] /= matrix[k][k];
  }
}

template <class Vectors, class Space>
__device__ __forceinline__ void make_m(const LocalParameters& at, const Vectors& x, Space& n) {
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    const double a = static_cast<double>(at.scale) * x.alpha[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) n.m[i][j] = i == j ? a : 0;
    if (!at.in_order) continue;
#pragma unroll
    for (int64_t k = 0; k < i; ++k) {
      const double factor = a * inner(n, x.u[i], x.u[k]);
#pragma unroll
      for (int64_t j = 0; j <= k; ++j) n.m[i][j] -= factor * n.m[k][j];
    }
  }
}

// W^T and A, centred if N is a LayerNorm.
template <class Vectors, class Space>
__device__ __forceinline__ void make_rows(const LocalParameters& at, const Vectors& x, Space& n) {
  const auto inside = [&](int64_t k) { return threadIdx.x % kWarp + k * kWarp < at.D; };
  real mean_a = 0;
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) mean_a += x.offset[k];
  mean_a = at.normalised ? warp_sum(mean_a) / at.D : real(0);
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i)
    n.change[i] = at.normalised ? inner(n, x.gain, x.u[i]) / double(at.D) : 0;
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    double mean = 0;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      n.from[i] = n.m[i][j];
      mean += n.from[i] * n.change[i];
    }
    const real shift = static_cast<real>(mean);
#pragma unroll
    for (int64_t k = 0; k < n.c; ++k)
      n.w[j][k] = inside(k) ? x.gain[k] * combine(n, x.u, n.from, k) - shift : real(0);
  }
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) n.a[k] = inside(k) ? x.offset[k] - mean_a : real(0);
}

template <class Vectors, class Space>
__device__ __forceinline__ void make_products(const LocalParameters& at, const Vectors& x,
                                              Space& n) {
  const double D = at.D;
  n.variance = inner(n, n.a, n.a) / D + at.eps;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    n.beta[i] = 0;
    n.cross[i] = inner(n, n.a, n.w[i]) / D;
    n.p0[i] = inner(n, x.u[i], x.weight, n.a);
    n.e[i] = inner(n, x.u[i], x.bias);
#pragma unroll
    for (int64_t j = 0; j <= i; ++j) n.square[i][j] = n.square[j][i] = inner(n, n.w[i], n.w[j]) / D;
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) n.p1[i][j] = inner(n, x.u[i], x.weight, n.w[j]);
  }
}

template <class Space, class Ranks>
__device__ __forceinline__ double inverse_deviation(const Space& n, const Ranks& beta, double eps) {
  double variance = n.variance;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    double slope = 2 * n.cross[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) slope += n.square[i][j] * beta[j];
    variance += beta[i] * slope;
  }
  return ::rsqrt(variance < eps ? eps : variance);
}

struct Residual {
  double difference = 0, size = 0;  // max |F - beta|, max |F|
};

template <class Space>
__device__ __forceinline__ Residual evaluate(Space& n, double eps) {
  n.inverse = inverse_deviation(n, n.beta, eps);
  Residual residual;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    double total = n.p0[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) total += n.p1[i][j] * n.beta[j];
    n.f[i] = total * n.inverse + n.e[i];
    residual.difference = Larger()(::fabs(n.f[i] - n.beta[i]), residual.difference);
    residual.size = ::fmax(residual.size, ::fabs(n.f[i]));
  }
  return residual;
}

constexpr double kSmall = 1e-8;  // what a residual is relative to is never smaller

// y <- y(beta); whether the map moves it by no more than the tolerance.
template <class Vectors, class Space, class Row>
__device__ __forceinline__ bool write(const LocalParameters& at, const Vectors& x, Space& n,
                                      Row& y) {
  const double next = inverse_deviation(n, n.f, at.eps);
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    n.from[j] = n.beta[j] * n.inverse;
    n.change[j] = n.f[j] * next - n.from[j];
  }
  const real from = static_cast<real>(n.inverse), change = static_cast<real>(next - n.inverse);
  real worst = 0, size = 0;
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) {
    y[k] = x.weight[k] * (n.a[k] * from + combine(n, n.w, n.from, k)) + x.bias[k];
    const real difference = x.weight[k] * (n.a[k] * change + combine(n, n.w, n.change, k));
    worst = Larger()(magnitude(difference), worst);
    size = Larger()(magnitude(y[k] + difference), size);
  }
  worst = warp_max(worst);
  size = warp_max(size);
  return worst <= at.tolerance * (size + kSmall);
}

// change <- (1 / length + 1 - F'(beta))^-1 (F - beta).
template <class Space>
__device__ __forceinline__ void implicit_step(Space& n, double inverse_length) {
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    double slope = n.cross[j];
#pragma unroll
    for (int64_t k = 0; k < n.r; ++k) slope += n.square[j][k] * n.beta[k];
    slope *= n.inverse * n.inverse;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i)
      n.m[i][j] =
          (i == j ? 1 + inverse_length : 0) - n.p1[i][j] * n.inverse + (n.f[i] - n.e[i]) * slope;
    n.change[j] = n.f[j] - n.beta[j];
  }
  eliminate(n, n.m, n.change);
}

// After so many evaluations the two ways to a root take turns.
constexpr int64_t kTurn = 32;

// The root rule: plain iteration, then implicit steps of the flow to the root that attracts it.
struct Path {
  double length = 1, best = INFINITY, last = INFINITY;
  int stalled = 0;
  bool implicit = false;

  template <class Space>
  __device__ __forceinline__ void move(Space& n, double residual, int64_t count) {
    double along = 0;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      const double now = n.f[i] - n.beta[i];
      if (count > 1) along += now * n.before[i];
      n.before[i] = now;
    }
    if (implicit && residual < 0.9 * last)
      length *= 4;
    else if (implicit && along < 0)
      length = length > 1.0 / 4 ? length / 4 : 1.0 / 16;
    if (residual < 0.9 * best) {
      best = residual;
      stalled = 0;
    } else if (along < 0) {
      ++stalled;
    }
    last = residual;
    implicit = implicit || stalled == 4 || count >= kTurn;
    bool with_flow = false;
    if (implicit) {
      implicit_step(n, 1 / length);
      double forwards = 0;
#pragma unroll
      for (int64_t i = 0; i < n.r; ++i) forwards += n.change[i] * n.before[i];
      with_flow = forwards > 0 && forwards < INFINITY;
    }
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) n.beta[i] += with_flow ? n.change[i] : n.before[i];
  }
};

// Where the flow goes round a root: Newton's steps from 0, then from half of where the last ones have led.
struct Search {
  static constexpr int64_t kStart = 16;

  template <class Space>
  __device__ __forceinline__ void move(Space& n, int64_t count) const {
    const int64_t steps = count - 2 * kTurn;
    if (steps % kStart == 0) {
#pragma unroll
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = steps == 0 ? 0 : n.f[i] / 2;
      return;
    }
    implicit_step(n, 0);
    double longest = 0, reach = 0;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      longest = Larger()(::fabs(n.change[i]), longest);
      reach = ::fmax(reach, ::fabs(n.f[i]));
    }
    const bool solved = longest < INFINITY;
    const double scale = longest > reach ? reach / longest : 1;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i)
      n.beta[i] += solved ? scale * n.change[i] : n.f[i] - n.beta[i];
  }
};

// The same for r = 1: halve the interval that holds a root.
struct Bracket {
  bool open = false;
  double low = 0, high = 0;

  template <class Vectors, class Space>
  __device__ __forceinline__ void move(const LocalParameters& at, const Vectors& x, Space& n) {
    if (!open) {
      open = true;
      const double squares = inner(n, x.u[0], x.weight, x.u[0], x.weight);
      const double reach = 1.001 * ::sqrt(squares * at.D);
      if (n.p0[0] / ::sqrt(n.variance) + n.e[0] > 0)
        high = n.e[0] + reach;
      else
        low = n.e[0] - reach;
    } else {
      (n.f[0] > n.beta[0] ? low : high) = n.beta[0];
    }
    n.beta[0] = (low + high) / 2;
  }
};

template <class Vectors, class Space, class Row>
__device__ __forceinline__ int32_t iterate(const LocalParameters& at, const Vectors& x, Space& n,
                                           Row& y) {
  double tolerance = at.tolerance;
  const int64_t half = (at.max_iterations + 1) / 2,
                bracketed_from = half < 2 * kTurn ? half : 2 * kTurn;
  Path path;
  Search search;
  Bracket bracket;
  for (int64_t count = 1;; ++count) {
    const Residual residual = evaluate(n, at.eps);
    const bool finite = residual.difference < INFINITY;
    if (finite && residual.difference <= tolerance * (residual.size + kSmall)) {
      if (write(at, x, n, y)) return static_cast<int32_t>(count);
      tolerance /= 10;
    }
    if (!finite)
      for (int64_t i = 0; i < n.r; ++i) n.beta[i] = n.inverse = NAN;
    if (!finite || count == at.max_iterations) {
      write(at, x, n, y);
      return static_cast<int32_t>(at.max_iterations);
    }
    if (n.r == 1 && count >= bracketed_from)
      bracket.move(at, x, n);
    else if (n.r == 1 || count < kTurn || count / kTurn % 2 == 1)
      path.move(n, residual.difference, count);
    else
      search.move(n, count);
  }
}

// N is the identity: (I - U W) beta = U A, y = A + W beta.
template <class Vectors, class Space, class Row>
__device__ __forceinline__ void solve_linear(const Vectors& x, Space& n, Row& y) {
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    n.beta[i] = inner(n, x.u[i], n.a);
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) n.p1[i][j] = (i == j) - double(inner(n, x.u[i], n.w[j]));
  }
  eliminate(n, n.p1, n.beta);
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) y[k] = n.a[k] + combine(n, n.w, n.beta, k);
}

// W^T <- N' W^T at the solution y; a becomes sigma times the normalised value.
template <class Vectors, class Space, class Row>
__device__ __forceinline__ void through_norm(const LocalParameters& at, const Vectors& x, Space& n,
                                             const Row& y) {
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) n.beta[i] = inner(n, x.u[i], y);
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) n.a[k] += combine(n, n.w, n.beta, k);
  const double variance = inner(n, n.a, n.a) / double(at.D) + at.eps;
  const real inverse = static_cast<real>(::rsqrt(variance));
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    const real pull = static_cast<real>(inner(n, n.w[i], n.a) / (at.D * variance));
#pragma unroll
    for (int64_t k = 0; k < n.c; ++k)
      n.w[i][k] = inverse * x.weight[k] * (n.w[i][k] - pull * n.a[k]);
  }
}

}  // namespace local

// y from beta = 0 on; returns how often F was evaluated.
template <class Vectors, class Space, class Row>
__device__ __forceinline__ int32_t local_solve(const LocalParameters& at, const Vectors& x,
                                               Space& n, Row& y) {
  local::make_m(at, x, n);
  local::make_rows(at, x, n);
  if (!at.normalised) {
    local::solve_linear(x, n, y);
    return 1;
  }
  local::make_products(at, x, n);
  return local::iterate(at, x, n, y);
}

// v <- w + U^T q with (I - E U^T) q = E w, at the solution y.
template <class Vectors, class Space, class Row>
__device__ __forceinline__ void local_adjoint(const LocalParameters& at, const Vectors& x, Space& n,
                                              const Row& y, const Row& w, Row& v) {
  local::make_m(at, x, n);
  local::make_rows(at, x, n);
  if (at.normalised) local::through_norm(at, x, n, y);
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    n.f[i] = local::inner(n, n.w[i], w);
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j)
      n.p1[i][j] = (i == j) - double(local::inner(n, n.w[i], x.u[j]));
  }
  local::eliminate(n, n.p1, n.f);
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) v[k] = w[k] + local::combine(n, x.u, n.f, k);
}

}  // namespace fprnn::cuda
