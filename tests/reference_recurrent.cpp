// The LSTM and the GRU, a step at a time.
#include "reference.h"

#include <cmath>

namespace fprnn::reference {

namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// weight h + bias, the part of row `row` that comes from the state.
double from_state(const Recurrent& in, const Array& h, int64_t b, int64_t row) {
  double total = in.bias != nullptr ? (*in.bias)(row) : 0;
  for (int64_t k = 0; k < h.shape[1]; ++k) total += (*in.weight)(row, k) * h(b, k);
  return total;
}

Array or_zeros(const Array* first, int64_t B, int64_t H) {
  return first != nullptr ? *first : Array(Shape{B, H});
}

}  // namespace

std::pair<Array, Array> lstm(const Recurrent& in) {
  const int64_t B = in.x->shape[0], T = in.x->shape[1], H = in.weight->shape[1];
  Array all_h(Shape{B, T, H}), all_c(Shape{B, T, H});
  Array h = or_zeros(in.h0, B, H), c = or_zeros(in.c0, B, H);
  for (int64_t t = 0; t < T; ++t) {
    const Array before = h;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t d = 0; d < H; ++d) {
        const auto gate = [&](int64_t g) {
          return (*in.x)(b, t, g * H + d) + from_state(in, before, b, g * H + d);
        };
        c(b, d) = logistic(gate(1)) * c(b, d) + logistic(gate(0)) * std::tanh(gate(2));
        h(b, d) = logistic(gate(3)) * std::tanh(c(b, d));
        all_c(b, t, d) = c(b, d);
        all_h(b, t, d) = h(b, d);
      }
  }
  return {all_h, all_c};
}

Array gru(const Recurrent& in) {
  const int64_t B = in.x->shape[0], T = in.x->shape[1], H = in.weight->shape[1];
  Array all(Shape{B, T, H}), h = or_zeros(in.h0, B, H);
  for (int64_t t = 0; t < T; ++t) {
    const Array before = h;
    for (int64_t b = 0; b < B; ++b)
      for (int64_t d = 0; d < H; ++d) {
        const auto x = [&](int64_t g) { return (*in.x)(b, t, g * H + d); };
        const auto s = [&](int64_t g) { return from_state(in, before, b, g * H + d); };
        const double r = logistic(x(0) + s(0)), z = logistic(x(1) + s(1));
        h(b, d) = (1 - z) * std::tanh(x(2) + r * s(2)) + z * before(b, d);
        all(b, t, d) = h(b, d);
      }
  }
  return all;
}

}  // namespace fprnn::reference
