#include <cmath>

#include "reference.h"

namespace fprnn::reference {

std::pair<Array, Array> delta_rule(const DeltaRule& in) {
  const int64_t B = in.q->shape[0], T = in.q->shape[1], H = in.q->shape[2], K = in.q->shape[3];
  const int64_t n = in.k->shape[2], HV = in.v->shape[3], V = in.v->shape[4];
  Array o(Shape{B, T, HV, V}), S(Shape{B, HV, K, V});
  if (in.state != nullptr) S = *in.state;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < HV; ++h) {
        const int64_t key_head = h / (HV / H);
        const double keep = in.g != nullptr ? std::exp((*in.g)(b, t, h)) : 1;
        for (int64_t c = 0; c < K; ++c)
          for (int64_t j = 0; j < V; ++j) S(b, h, c, j) *= keep;
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < V; ++j) {
            double error = (*in.v)(b, t, i, h, j);
            for (int64_t c = 0; c < K; ++c) error -= S(b, h, c, j) * (*in.k)(b, t, i, key_head, c);
            for (int64_t c = 0; c < K; ++c)
              S(b, h, c, j) += (*in.beta)(b, t, i, h) * (*in.k)(b, t, i, key_head, c) * error;
          }
        for (int64_t j = 0; j < V; ++j)
          for (int64_t c = 0; c < K; ++c)
            o(b, t, h, j) += in.scale * S(b, h, c, j) * (*in.q)(b, t, key_head, c);
      }
  return {o, S};
}

}  // namespace fprnn::reference
