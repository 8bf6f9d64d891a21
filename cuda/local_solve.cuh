// The local equation y = N(A + S . ((I - Q) y)) of a mixer of rank r and its adjoint by one team, with the
// names of ops/fp_mamba_solve.md. A thread holds the channels rank, rank + kSize, ... of vectors,
// which are 0 beyond the last; what is r or r x r every thread has for itself, in double as on the
// CPU, and the same bits, so all threads go the same way.
//
// The functions see arrays that are indexed by rank and channel of the thread. For small sizes they are
// registers; for any other they lie in memory (Strided), the same code with longer loops.
#pragma once

#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/team.cuh>

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
  const double part = at.normalised ? 1 / double(at.D) : 0;
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

constexpr double kSmall = 1e-8;  // what a residual is relative to is never smaller

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
  return largest[0] <= at.tolerance * (largest[1] + kSmall);
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
    if (finite && residual.difference <= tolerance * (residual.size + kSmall)) {
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
