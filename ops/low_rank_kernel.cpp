#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/small_matrix.h>

namespace fprnn::FPRNN_ISA {

namespace {

FPRNN_INLINE void copy(const real* from, real* to, int64_t D) {
  for_lanes(D, [&](int64_t i, auto lanes) { lanes.store(to + i, lanes.load(from + i)); });
}

}  // namespace

void low_rank_forward(const LowRankForward& args, int64_t begin, int64_t end) {
  const int64_t r = args.r, D = args.D;
  for (int64_t token = begin; token < end; ++token) {
    const real* v = args.v + token * D;
    real* y = args.y + token * D;
    copy(v, y, D);
    for (int64_t i = token * r; i < (token + 1) * r; ++i) {
      const real* u = args.u + i * D;
      args.dots[i] = inner(D, u, args.in_order ? y : v);
      const real amount = args.scale * args.alpha[i] * args.dots[i];
      for_lanes(D, [&](int64_t d, auto lanes) {
        lanes.store(y + d, lanes.load(y + d) - amount * lanes.load(u + d));
      });
    }
  }
}

// With s_i = u_i . v_i the kept dot, q_i = u_i . g_i and a_i = scale alpha_i, from the last factor
// back:
//   dalpha_i = -scale s_i q_i,   du_i = -a_i (s_i g_i + q_i v_i),   g <- g - a_i q_i u_i.
// In order, v_i is what factor i met, had back from its result as v_i = v_{i+1} + a_i s_i u_i, and
// g_i what has come back to it; otherwise they are v and dy for every factor. v is working space,
// (D).
void low_rank_backward(const LowRankBackward& args, real* v, int64_t begin, int64_t end) {
  const int64_t r = args.r, D = args.D;
  for (int64_t token = begin; token < end; ++token) {
    const real* dy = args.dy + token * D;
    real* dv = args.dv + token * D;
    copy(args.kept + token * D, v, D);
    copy(dy, dv, D);
    for (int64_t i = (token + 1) * r - 1; i >= token * r; --i) {
      const real* u = args.u + i * D;
      const real* g = args.in_order ? dv : dy;
      const real a = args.scale * args.alpha[i], s = args.dots[i], q = inner(D, u, g);
      const real undo = args.in_order ? a * s : 0;
      args.dalpha[i] = -args.scale * s * q;
      for_lanes(D, [&](int64_t d, auto lanes) {
        const Vec direction = lanes.load(u + d);
        const Vec met = lanes.load(v + d) + undo * direction;
        lanes.store(v + d, met);
        lanes.store(args.du + i * D + d, -a * (s * lanes.load(g + d) + q * met));
        lanes.store(dv + d, lanes.load(dv + d) - a * q * direction);
      });
    }
  }
}

}  // namespace fprnn::FPRNN_ISA
