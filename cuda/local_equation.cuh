// The local equation of a mixer of rank r, with the names of ops/fp_mamba_solve.md,
//   y = N(A + S . ((I - Q) y))
// reduced by one team to r numbers beta, which cuda/local_root.cuh finds. A thread holds the
// channels rank, rank + kSize, ... of vectors, with 0 beyond the last. Every thread has its own
// copy of what is r or r x r, in double as on the CPU (most plain steps in float); the copies agree
// to the bit, so all threads take the same branches.
//
// The functions see arrays indexed by rank and by the thread's channel. They are registers for
// small sizes and lie in memory (Strided) for others: the same code with longer loops.
#pragma once

#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/team.cuh>

namespace fprnn::cuda {

struct LocalParameters {
  int64_t D;
  real scale;
  bool in_order;             // householder; false: dplr
  bool normalised, centred;  // whether N is a norm, and whether that is a LayerNorm
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

// Working space for rank R and C channels a thread.
template <int R, int C>
struct LocalSpace {
  using Scalar = double;
  static constexpr int kRank = R;
  static constexpr int r = R, c = C;
  real w[R][C];  // W^T
  real a[C];     // A
  double m[R][R], square[R][R], p1[R][R];
  double cross[R], p0[R], e[R], beta[R], f[R], from[R], change[R], before[R];
  double variance = 0, inverse = 0, next = 0;
};
template <>
struct LocalSpace<0, 0> {
  using Scalar = double;
  static constexpr int kRank = 0;  // any
  int64_t r, c;
  StridedRows<real> w;
  Strided<real> a;
  StridedRows<double> m, square, p1;
  Strided<double> cross, p0, e, beta, f, from, change, before;
  double variance = 0, inverse = 0, next = 0;
};

namespace local {

// A thread's part of an inner product.
template <class Space, class... Rows>
__device__ __forceinline__ real inner(const Space& n, const Rows&... rows) {
  real total = 0;
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) total += (rows[k] * ...);
  return total;
}

// stage(sum) calls sum(to, part) for each sum over the team that it needs: K of them, which go in
// one exchange, or any number, one after the other, where K is 0.
template <int K, class Team, class Stage>
__device__ __forceinline__ void together(const Team& team, const Stage& stage) {
  if constexpr (K == 0) {
    stage([&](auto& to, const auto& part) { to = team.sum(part()); });
  } else {
    real x[K];
    int at = 0;
    stage([&](auto&, const auto& part) { x[at++] = part(); });
    team.sums(x);
    at = 0;
    stage([&](auto& to, const auto&) { to = x[at++]; });
  }
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

// b <- matrix^-1 b by elimination, the largest of a column its pivot. Returns whether the
// determinant is negative. Lanes may have matrices of their own: there are no branches.
template <class Space, class Matrix, class Column>
__device__ __forceinline__ bool eliminate(const Space& n, Matrix& matrix, Column& b) {
  bool negative = false;
#pragma unroll
  for (int64_t k = 0; k < n.r; ++k) {
#pragma unroll
    for (int64_t i = k + 1; i < n.r; ++i) {
      const bool turned = ::fabs(matrix[i][k]) > ::fabs(matrix[k][k]);
      const auto order = [turned](double& x, double& y) {
        const double kept = x;
        x = turned ? y : x;
        y = turned ? kept : y;
      };
#pragma unroll
      for (int64_t j = k; j < n.r; ++j) order(matrix[k][j], matrix[i][j]);
      order(b[k], b[i]);
      negative ^= turned;
    }
    negative ^= matrix[k][k] < 0;
    matrix[k][k] = 1 / matrix[k][k];
#pragma unroll
    for (int64_t i = k + 1; i < n.r; ++i) {
      const double factor = matrix[i][k] * matrix[k][k];
#pragma unroll
      for (int64_t j = k + 1; j < n.r; ++j) matrix[i][j] -= factor * matrix[k][j];
      b[i] -= factor * b[k];
    }
  }
#pragma unroll
  for (int64_t k = n.r - 1; k >= 0; --k) {
#pragma unroll
    for (int64_t j = k + 1; j < n.r; ++j) b[k] -= matrix[k][j] * b[j];
    b[k] *= matrix[k][k];
  }
  return negative;
}

// matrix <- I - matrix.
template <class Space, class Matrix>
__device__ __forceinline__ void from_identity(const Space& n, Matrix& matrix) {
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i)
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) matrix[i][j] = (i == j) - matrix[i][j];
}

// M, then the rows of W^T and A, centred if N is a LayerNorm. more(sum): `More` further sums for each of the r.
template <int More = 0, class Team, class Vectors, class Space, class Others>
__device__ __forceinline__ void make_rows(const Team& team, const LocalParameters& at,
                                          const Vectors& x, Space& n, const Others& more) {
  constexpr int R = Space::kRank;
  real mean_a = 0;
  together<R == 0 ? 0 : R*(R - 1) / 2 + R + 1 + More * R>(team, [&](const auto& sum) {
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
#pragma unroll
      for (int64_t k = 0; k < i; ++k) sum(n.square[i][k], [&] { return inner(n, x.u[i], x.u[k]); });
      sum(n.change[i], [&] { return inner(n, x.gain, x.u[i]); });
    }
    sum(mean_a, [&] { return inner(n, x.offset); });
    more(sum);
  });
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    const double a = static_cast<double>(at.scale) * x.alpha[i];
#pragma unroll
    for (int64_t j = 0; j < n.r; ++j) n.m[i][j] = i == j ? a : 0;
    if (!at.in_order) continue;
#pragma unroll
    for (int64_t k = 0; k < i; ++k) {
      const double factor = a * n.square[i][k];
#pragma unroll
      for (int64_t j = 0; j <= k; ++j) n.m[i][j] -= factor * n.m[k][j];
    }
  }

  const auto inside = [&](int64_t k) { return team.rank + k * Team::kSize < at.D; };
  const double part = at.centred ? 1 / double(at.D) : 0;
  mean_a *= static_cast<real>(part);
#pragma unroll
  for (int64_t j = 0; j < n.r; ++j) {
    double mean = 0;
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      n.from[i] = n.m[i][j];
      mean += n.from[i] * n.change[i];
    }
    const real shift = static_cast<real>(mean * part);
#pragma unroll
    for (int64_t k = 0; k < n.c; ++k)
      n.w[j][k] = inside(k) ? x.gain[k] * combine(n, x.u, n.from, k) - shift : real(0);
  }
#pragma unroll
  for (int64_t k = 0; k < n.c; ++k) n.a[k] = inside(k) ? x.offset[k] - mean_a : real(0);
}

template <class Team, class Vectors, class Space>
__device__ __forceinline__ void make_products(const Team& team, const LocalParameters& at,
                                              const Vectors& x, Space& n) {
  constexpr int R = Space::kRank;
  together<R == 0 ? 0 : 1 + 3 * R + R*(R + 1) / 2 + R * R>(team, [&](const auto& sum) {
    sum(n.variance, [&] { return inner(n, n.a, n.a); });
#pragma unroll
    for (int64_t i = 0; i < n.r; ++i) {
      sum(n.cross[i], [&] { return inner(n, n.a, n.w[i]); });
      sum(n.p0[i], [&] { return inner(n, x.u[i], x.weight, n.a); });
      sum(n.e[i], [&] { return inner(n, x.u[i], x.bias); });
#pragma unroll
      for (int64_t j = 0; j <= i; ++j)
        sum(n.square[i][j], [&] { return inner(n, n.w[i], n.w[j]); });
#pragma unroll
      for (int64_t j = 0; j < n.r; ++j)
        sum(n.p1[i][j], [&] { return inner(n, x.u[i], x.weight, n.w[j]); });
    }
  });
  const double part = 1 / double(at.D);
  n.variance = n.variance * part + at.eps;
#pragma unroll
  for (int64_t i = 0; i < n.r; ++i) {
    n.beta[i] = 0;
    n.cross[i] *= part;
#pragma unroll
    for (int64_t j = 0; j <= i; ++j) n.square[i][j] = n.square[j][i] = n.square[i][j] * part;
  }
}

}  // namespace local

}  // namespace fprnn::cuda
