// Channel mixers that differ from the identity by rank r (arXiv 2503.10799, section 4):
//   householder:  for i = 1..r in order: v <- v - scale alpha_i u_i (u_i . v)
//   dplr:         v - scale sum_i alpha_i u_i (u_i . v)
// with unit vectors u_i and 0 < alpha_i < 1. At rank 1 |I - Q| is scale alpha_1, so scale 1
// contracts; at higher ranks |I - Q| can exceed 1 at scale 1 too (ops/mixer_bounds.md). Scale 2
// allows reflections.
// Cost a token: 4 r D flops, (r + 2) D elements; backward about twice that. Keeps u, alpha, the r
// dot products and Q v or v.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// u (..., r, D), alpha (..., r), v (..., D) -> Q v (..., D). The caller normalises u
// (l2_normalize).
// ShapeError: sizes do not fit. ValueError: scale is not finite.
Var householder(const Var& u, const Var& alpha, const Var& v, real scale);
Var dplr(const Var& u, const Var& alpha, const Var& v, real scale);

struct LowRankForward {
  const real* u;      // (tokens, r, D)
  const real* alpha;  // (tokens, r)
  const real* v;      // (tokens, D)
  real* y;            // (tokens, D)
  real* dots;         // (tokens, r): the u_i . v of the formulas above
  int64_t tokens, r, D;
  real scale;
  bool in_order;  // householder: each factor gets the result of the one before; dplr: all get v
};
struct LowRankBackward : LowRankForward {  // v and y are not read
  const real* kept = nullptr;  // (tokens, D): y if in_order, whose factors are undone, else v
  const real* dy = nullptr;    // (tokens, D)
  real* du = nullptr;          // (tokens, r, D)
  real* dalpha = nullptr;      // (tokens, r)
  real* dv = nullptr;          // (tokens, D)
};
void run(Cpu, const LowRankForward&);
void run(Cpu, const LowRankBackward&);
void run(Cuda, const LowRankForward&);
void run(Cuda, const LowRankBackward&);

}  // namespace fprnn
