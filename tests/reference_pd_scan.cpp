// PD-SSM's scan with P as a matrix.
#include "reference.h"

#include <cmath>
#include <complex>

namespace fprnn::reference {

namespace {

// M of a token.
Array mixture(const PdScan& in, int64_t b, int64_t t) {
  const int64_t N = in.dictionary->shape[0], K = in.dictionary->shape[2];
  double total = 0;
  for (int64_t k = 0; k < K; ++k) total += std::exp((*in.selection)(b, t, k));
  Array m(Shape{N, N});
  for (int64_t i = 0; i < N; ++i)
    for (int64_t j = 0; j < N; ++j)
      for (int64_t k = 0; k < K; ++k)
        m(i, j) += std::exp((*in.selection)(b, t, k)) / total * (*in.dictionary)(i, j, k);
  return m;
}

// One where a column (a row) is largest.
Array one_hot(const Array& m, bool row) {
  const int64_t N = m.shape[0];
  Array p(m.shape);
  for (int64_t slot = 0; slot < N; ++slot) {
    int64_t best = 0;
    const auto entry = [&](int64_t c) { return row ? m(slot, c) : m(c, slot); };
    for (int64_t c = 1; c < N; ++c)
      if (entry(c) > entry(best)) best = c;
    (row ? p(slot, best) : p(best, slot)) = 1;
  }
  return p;
}

}  // namespace

Array pd_scan(const PdScan& in) {
  const int64_t B = in.d->shape[0], T = in.d->shape[1], N = in.dictionary->shape[0];
  using Complex = std::complex<double>;
  Array all(Shape{B, T, 2 * N});
  for (int64_t b = 0; b < B; ++b) {
    std::vector<Complex> h(N);
    if (in.h0 != nullptr)
      for (int64_t i = 0; i < N; ++i) h[i] = {(*in.h0)(b, i), (*in.h0)(b, N + i)};
    for (int64_t t = 0; t < T; ++t) {
      const Array p = one_hot(mixture(in, b, t), in.row);
      std::vector<Complex> next(N);
      for (int64_t i = 0; i < N; ++i) {
        next[i] = {(*in.b)(b, t, i), (*in.b)(b, t, N + i)};
        for (int64_t j = 0; j < N; ++j) {
          const int64_t at = in.row ? i : j;
          next[i] += p(i, j) * Complex((*in.d)(b, t, at), (*in.d)(b, t, N + at)) * h[j];
        }
      }
      h = next;
      for (int64_t i = 0; i < N; ++i) {
        all(b, t, i) = h[i].real();
        all(b, t, N + i) = h[i].imag();
      }
    }
  }
  return all;
}

}  // namespace fprnn::reference
