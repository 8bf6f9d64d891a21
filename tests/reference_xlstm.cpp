// The cells of the xLSTM, a step at a time.
#include <algorithm>
#include <cmath>

#include "reference.h"

namespace fprnn::reference {

namespace {

double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

}  // namespace

std::vector<Array> mlstm(const Mlstm& in) {
  const int64_t B = in.q->shape[0], T = in.q->shape[1], H = in.q->shape[2], d = in.q->shape[3];
  Array h(in.q->shape), c(Shape{B, H, d, d}), n(Shape{B, H, d}), m(Shape{B, H});
  std::fill(m.data.begin(), m.data.end(), in.nothing);
  if (in.c != nullptr) c = *in.c, n = *in.n, m = *in.m;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t j = 0; j < H; ++j) {
        const double keep = log_sigmoid((*in.fgate)(b, t, j)) + m(b, j), i = (*in.igate)(b, t, j);
        m(b, j) = std::max(keep, i);
        const double forget = std::exp(keep - m(b, j));
        const double write = std::exp(i - m(b, j)) / std::sqrt(static_cast<double>(d));
        double read = 0;
        for (int64_t x = 0; x < d; ++x) {
          n(b, j, x) = forget * n(b, j, x) + write * (*in.k)(b, t, j, x);
          read += n(b, j, x) * (*in.q)(b, t, j, x);
        }
        const double size = std::max(std::abs(read), std::exp(-m(b, j))) + in.eps;
        for (int64_t y = 0; y < d; ++y)
          for (int64_t x = 0; x < d; ++x) {
            c(b, j, x, y) =
                forget * c(b, j, x, y) + write * (*in.k)(b, t, j, x) * (*in.v)(b, t, j, y);
            h(b, t, j, y) += c(b, j, x, y) * (*in.q)(b, t, j, x) / size;
          }
      }
  return {h, c, n, m};
}

std::vector<Array> slstm(const Slstm& in) {
  const int64_t B = in.x->shape[0], T = in.x->shape[1], H = in.weight->shape[0];
  const int64_t d = in.weight->shape[2], D = H * d;
  Array all(Shape{B, T, D}), h(Shape{B, D}), c = h, n = h, m = h;
  std::fill(m.data.begin(), m.data.end(), in.nothing);
  if (in.h != nullptr) h = *in.h, c = *in.c, n = *in.n, m = *in.m;
  for (int64_t t = 0; t < T; ++t) {
    const Array before = h;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t i = 0; i < D; ++i) {
        const auto gate = [&](int64_t g) {
          double a = (*in.x)(b, t, g * D + i) + (in.bias != nullptr ? (*in.bias)(g * D + i) : 0);
          for (int64_t k = 0; k < d; ++k)
            a += (*in.weight)(i / d, g * d + i % d, k) * before(b, i / d * d + k);
          return a;
        };
        const double keep = log_sigmoid(gate(1)) + m(b, i), input = gate(0);
        m(b, i) = std::max(keep, input);
        const double forget = std::exp(keep - m(b, i)), write = std::exp(input - m(b, i));
        c(b, i) = forget * c(b, i) + write * std::tanh(gate(2));
        n(b, i) = forget * n(b, i) + write;
        h(b, i) = c(b, i) / n(b, i) / (1 + std::exp(-gate(3)));
        all(b, t, i) = h(b, i);
      }
  }
  return {all, c, n, m};
}

}  // namespace fprnn::reference
