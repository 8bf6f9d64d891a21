// One token's factor K of a Kronecker mixer from its numbers k, and the gradient, as in
// ops/kronecker_kernel.cpp, by a team of threads. All data is in working space. When a function
// returns, the whole team sees what it wrote.
#pragma once

#include <fprnn/cuda/small_matrix.cuh>
#include <fprnn/ops/kronecker.h>

namespace fprnn::cuda {

template <class M>
struct KroneckerFactor {
  static constexpr int kSteps = 2 * kPowerIterations;

  M m;
  KroneckerNorm norm;
  real eps;          // as it is given
  real* power;       // of two, that E was multiplied by, as in ops/kronecker_kernel.cpp
  real *e, *k;       // (m, m) with rows odd_stride(m) apart: E; E E^T and then K times sigma + eps
  real* length;      // (m): of the rows of E E^T
  real* products;    // (m), in passing
  real* iterates;    // (1 + kSteps, m): the vectors of the power iteration, if there is one
  real* norms;       // (kSteps): |K x| of each step
  real inverse = 1;  // 1 / (sigma + eps), or 1

  // Reals of working space, and how many more gradient needs.
  FPRNN_HOST_DEVICE static constexpr int64_t space(int64_t m, KroneckerNorm norm) {
    return 1 + 2 * m * odd_stride(m) + 2 * m +
           (norm == KroneckerNorm::row ? 0 : (1 + kSteps) * m + kSteps);
  }
  FPRNN_HOST_DEVICE static constexpr int64_t gradient_space(int64_t m, KroneckerNorm norm) {
    return m * odd_stride(m) + (norm == KroneckerNorm::row ? 2 : 3 + kSteps) * m;
  }

  __device__ __forceinline__ KroneckerFactor(M m, KroneckerNorm norm, real eps, real* space)
      : m(m), norm(norm), eps(eps) {
    const int64_t matrix = m * odd_stride(m);
    power = space;
    e = power + 1;
    k = e + matrix;
    length = k + matrix;
    products = length + m;
    iterates = products + m;
    norms = iterates + (1 + kSteps) * m;
  }

  // The place of row i, and of row i's element j in a triangle.
  template <class Index>
  __device__ __forceinline__ Index row(Index i) const {
    return i * static_cast<Index>(odd_stride(m));
  }
  template <class Index>
  __device__ __forceinline__ Index in_triangle(Index i, Index j) const {
    return i * (2 * m - i - 1) / 2 + j;
  }
  template <class Index>
  __device__ __forceinline__ real* iterate(Index i) const {
    return iterates + i * m;
  }

  // triangle(t) is element t of k.
  template <class T, class Triangle>
  __device__ __forceinline__ void make(const T& team, const Triangle& triangle) {
    using Index = typename T::Index;
    bool unusual = square_root(eps) * kMostOfFourth < 1;
    team.each_element(m, m, [&](Index i, Index j) {
      const real element = j < i ? real(0) : triangle(in_triangle(i, j));
      unusual |= magnitude(element) > kMostOfFourth;
      e[row(i) + j] = element;
    });
    if (team.rank == 0) *power = 1;
    if (team.any(unusual)) [[unlikely]]
      multiply_by_power(team);
    small_product(
        team, m, m, m, [&](Index i, Index l) { return e[row(i) + l]; },
        [&](Index l, Index j) { return e[row(j) + l]; },
        [&](Index i, Index j, real total) { k[row(i) + j] = total; });
    team.sync();
    team.row_sums(
        m, m, [&](Index i, Index j) { return k[row(i) + j] * k[row(i) + j]; },
        [&](Index i, real total) {
          length[i] = square_root(total);
          products[i] = 1 / at_least(length[i], row_eps());
        });
    team.sync();
    if (norm != KroneckerNorm::spectral) {
      team.each_element(m, m, [&](Index i, Index j) { k[row(i) + j] *= products[i]; });
      team.sync();
    }
    if (norm != KroneckerNorm::row) divide_by_eigenvalue(team);
  }

  // The gated factor; gate(i), of row i, is asked for by each of its elements. `out` (m, m) has rows so far
  // apart, m if nothing is said, and may be e.
  template <class T, class Gate>
  __device__ __forceinline__ void write(const T& team, const Gate& gate, bool transposed, real* out,
                                        typename T::Index stride) const {
    using Index = typename T::Index;
    team.each_element(m, m, [&](Index a, Index b) {
      const Index i = transposed ? b : a, j = transposed ? a : b;
      out[a * stride + b] = gate(i) * (k[row(i) + j] * inverse);
    });
    team.sync();
  }
  template <class T, class Gate>
  __device__ __forceinline__ void write(const T& team, const Gate& gate, bool transposed,
                                        real* out) const {
    write(team, gate, transposed, out, m);
  }

  // With dfactor(t) the cotangent of element t of what write writes: give_gate(i, dg_i), give_k(t, dk_t).
  // more: gradient_space reals.
  template <class T, class DFactor, class Gate, class GiveGate, class GiveK>
  __device__ __forceinline__ void gradient(const T& team, real* more, bool transposed,
                                           const DFactor& dfactor, const Gate& gate,
                                           const GiveGate& give_gate, const GiveK& give_k) const {
    using Index = typename T::Index;
    real* const d = more;  // the cotangent of K
    real* const work = more + m * odd_stride(m);
    team.each_element(m, m, [&](Index a, Index b) {
      d[transposed ? row(b) + a : row(a) + b] = dfactor(a * m + b);
    });
    team.sync();
    team.row_sums(
        m, m, [&](Index i, Index j) { return d[row(i) + j] * k[row(i) + j]; },
        [&](Index i, real total) { give_gate(i, total * inverse); });
    team.sync();
    team.each_element(m, m, [&](Index i, Index j) { d[row(i) + j] *= gate(i); });
    team.sync();
    if (norm != KroneckerNorm::row) through_eigenvalue(team, d, work);
    if (norm != KroneckerNorm::spectral) through_lengths(team, d, work);
    // S = E E^T: dE = (d + d^T) E.
    small_product(
        team, m, m, m, [&](Index i, Index l) { return d[row(i) + l] + d[row(l) + i]; },
        [&](Index l, Index j) { return e[row(l) + j]; },
        [&](Index i, Index j, real total) {
          if (j >= i) give_k(in_triangle(i, j), *power * total);
        });
    team.sync();
  }

 private:
  __device__ __forceinline__ real row_eps() const {
    return at_least(eps * *power * *power, kLeastNormal);
  }
  __device__ __forceinline__ real sigma_eps() const {
    return norm == KroneckerNorm::spectral ? row_eps() : eps;
  }

  template <class T>
  __device__ __forceinline__ void multiply_by_power(const T& team) const {
    using Index = typename T::Index;
    real largest = square_root(eps);
    team.each_element(
        m, m, [&](Index i, Index j) { largest = LargerSize()(largest, magnitude(e[row(i) + j])); });
    const real factor = inverse_power_of_two(team.largest(largest));
    team.each_element(m, m, [&](Index i, Index j) { e[row(i) + j] *= factor; });
    if (team.rank == 0) *power = factor;
    team.sync();
  }

  // v = (1, ..., 1) / sqrt(m); eight times u = nrm(K v), v = nrm(K u); sigma = u . K v. K itself is
  // left as it is.
  template <class T>
  __device__ __forceinline__ void divide_by_eigenvalue(const T& team) {
    using Index = typename T::Index;
    team.each(m, [&](Index i) { iterate(0)[i] = 1 / square_root(static_cast<real>(m)); });
    team.sync();
    for (int step = 0; step < kSteps; ++step) {
      const real* x = iterate(step);
      real* to = iterate(step + 1);
      team.row_sums(
          m, m, [&](Index i, Index j) { return k[row(i) + j] * x[j]; },
          [&](Index i, real total) { to[i] = total; });
      team.sync();
      const real reached = square_root(team.sum_of(m, [&](Index i) { return to[i] * to[i]; }));
      const real scale = 1 / at_least(reached, sigma_eps());
      team.each(m, [&](Index i) { to[i] *= scale; });
      if (team.rank == 0) norms[step] = reached;
      team.sync();
    }
    const real* u = iterate(kSteps - 1);
    const real* v = iterate(kSteps);
    team.row_sums(
        m, m, [&](Index i, Index j) { return k[row(i) + j] * v[j]; },
        [&](Index i, real total) { products[i] = u[i] * total; });
    team.sync();
    inverse = 1 / (team.sum_of(m, [&](Index i) { return products[i]; }) + sigma_eps());
  }

  // d: the cotangent of K on entry, of the undivided K on return. sigma and each step of the
  // iteration add an outer product to it, a pull times an iterate; all are added at once.
  // work: (3 + kSteps) m reals.
  template <class T>
  __device__ __forceinline__ void through_eigenvalue(const T& team, real* d, real* work) const {
    using Index = typename T::Index;
    real* const pulls = work;  // (1 + kSteps, m), of the iterates
    real dsigma = 0;
    team.each_element(m, m, [&](Index i, Index j) {
      dsigma -= d[row(i) + j] * k[row(i) + j];
      d[row(i) + j] *= inverse;
    });
    dsigma = team.sum(dsigma) * inverse * inverse;
    through_iteration(team, dsigma, pulls, work + (1 + kSteps) * m);
    small_product(
        team, m, Constant<1 + kSteps>(), m, [&](Index i, Index l) { return pulls[l * m + i]; },
        [&](Index l, Index j) { return iterates[l * m + j]; },
        [&](Index i, Index j, real total) { d[row(i) + j] += total; });
    team.sync();
  }

  // The pulls, from sigma = u . K v backwards. The cotangents of two iterates, 2 m reals, are met by the
  // threads of their elements alone.
  template <class T>
  __device__ __forceinline__ void through_iteration(const T& team, real dsigma, real* pulls,
                                                    real* cotangents) const {
    using Index = typename T::Index;
    real* before = cotangents;   // of iterate `step` - 1 below
    real* now = cotangents + m;  // of iterate `step`
    const real* u = iterate(kSteps - 1);
    const real* v = iterate(kSteps);
    team.row_sums(
        m, m, [&](Index i, Index j) { return k[row(i) + j] * v[j]; },
        [&](Index i, real total) {
          before[i] = dsigma * total;
          pulls[kSteps * m + i] = dsigma * u[i];
        });
    team.sync();
    add_transposed(team, pulls + kSteps * m, now, false);
    for (int step = kSteps; step > 0; --step) {
      // iterate(step) = nrm(K iterate(step - 1)).
      const real* y = iterate(step);
      real* const pull = pulls + (step - 1) * m;
      const real reached = norms[step - 1];
      const real along =
          reached > sigma_eps() ? team.sum_of(m, [&](Index i) { return now[i] * y[i]; }) : real(0);
      team.each(
          m, [&](Index i) { pull[i] = (now[i] - along * y[i]) / at_least(reached, sigma_eps()); });
      team.sync();
      add_transposed(team, pull, before, true);
      real* const swap = now;
      now = before;
      before = swap;
      team.each(m, [&](Index i) { before[i] = 0; });
    }
  }

  // to <- K^T x, or what it is and that.
  template <class T>
  __device__ __forceinline__ void add_transposed(const T& team, const real* x, real* to,
                                                 bool add) const {
    using Index = typename T::Index;
    team.each(m, [&](Index j) {
      real total = 0;
#pragma unroll 8
      for (Index i = 0; i < m; ++i) total += x[i] * k[row(i) + j];
      to[j] = add ? to[j] + total : total;
    });
  }

  // Rows: d <- (d - K (K . d)) / length. work: 2 m reals.
  template <class T>
  __device__ __forceinline__ void through_lengths(const T& team, real* d, real* work) const {
    using Index = typename T::Index;
    team.row_sums(
        m, m, [&](Index i, Index j) { return k[row(i) + j] * d[row(i) + j]; },
        [&](Index i, real total) {
          work[i] = length[i] > row_eps() ? total : real(0);
          work[m + i] = 1 / at_least(length[i], row_eps());
        });
    team.sync();
    team.each_element(m, m, [&](Index i, Index j) {
      d[row(i) + j] = work[m + i] * (d[row(i) + j] - work[i] * k[row(i) + j]);
    });
    team.sync();
  }
};

}  // namespace fprnn::cuda
