#include <cmath>

#include "reference.h"

namespace fprnn::reference {

Array attention(const Attention& in) {
  const int64_t B = in.q->shape[0], T = in.q->shape[1], H = in.q->shape[2], d = in.q->shape[3];
  const int64_t S = in.k->shape[1];
  Array y(in.q->shape);
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t t = 0; t < T; ++t) {
        const int64_t p = S - T + t, window = in.windows.empty() ? 0 : in.windows[h];
        const int64_t first = window > 0 ? std::max<int64_t>(0, p - window + 1) : 0;
        std::vector<double> weights;
        double total = 0;
        for (int64_t s = first; s <= p; ++s) {
          double score = 0;
          for (int64_t i = 0; i < d; ++i) score += (*in.q)(b, t, h, i) * (*in.k)(b, s, h, i);
          score *= in.scale;
          if (!in.slopes.empty()) score -= in.slopes[h] * static_cast<double>(p - s);
          weights.push_back(std::exp(score));
          total += weights.back();
        }
        for (int64_t s = first; s <= p; ++s)
          for (int64_t i = 0; i < d; ++i)
            y(b, t, h, i) += weights[s - first] / total * (*in.v)(b, s, h, i);
      }
  return y;
}

Array rotary(const Array& x, int64_t r, double base, int64_t first) {
  Array y = x;
  const int64_t B = x.shape[0], T = x.shape[1], H = x.shape[2];
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t j = 0; j < r / 2; ++j) {
          const double angle = double(first + t) * std::pow(base, -2.0 * double(j) / double(r));
          const double c = std::cos(angle), s = std::sin(angle);
          y(b, t, h, j) = x(b, t, h, j) * c - x(b, t, h, j + r / 2) * s;
          y(b, t, h, j + r / 2) = x(b, t, h, j + r / 2) * c + x(b, t, h, j) * s;
        }
  return y;
}

}  // namespace fprnn::reference
