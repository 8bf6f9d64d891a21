#include <algorithm>
#include <cmath>

#include "reference.h"

namespace fprnn::reference {

namespace {

double step_size(const SsdScan& in, int64_t s, int64_t t, int64_t h) {
  const double raw = (*in.dt)(s, t, h) + (in.dt_bias != nullptr ? (*in.dt_bias)(h) : 0);
  const double dt = in.softplus ? std::max(raw, 0.0) + std::log1p(std::exp(-std::abs(raw))) : raw;
  return std::clamp(dt, in.dt_min, in.dt_max);
}

double skip_of(const SsdScan& in, int64_t h, int64_t p) {
  if (in.skip == nullptr) return 0;
  return in.skip->shape.rank() == 2 ? (*in.skip)(h, p) : (*in.skip)(h);
}

}  // namespace

std::pair<Array, Array> ssd_scan(const SsdScan& in) {
  const Shape& x = in.x->shape;
  const int64_t B = x[0], T = x[1], H = x[2], P = x[3], G = in.b->shape[2], N = in.b->shape[3];
  Array y(x), state(Shape{B, H, P, N});
  if (in.h0 != nullptr) state = *in.h0;
  for (int64_t s = 0; s < B; ++s)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h) {
        const int64_t g = h / (H / G);
        const double dt = step_size(in, s, t, h), e = std::exp(dt * (*in.a)(h));
        for (int64_t p = 0; p < P; ++p) {
          const double u = (*in.x)(s, t, h, p);
          double total = skip_of(in, h, p) * u;
          for (int64_t n = 0; n < N; ++n) {
            double& value = state(s, h, p, n);
            value = (in.negative ? 2 * e - 1 : e) * value + dt * u * (*in.b)(s, t, g, n);
            total += value * (*in.c)(s, t, g, n);
          }
          y(s, t, h, p) = total;
        }
      }
  return {y, state};
}

}  // namespace fprnn::reference
