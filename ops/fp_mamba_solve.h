// One time step of a fixed-point layer, solved exactly. Everything but y in R^D is known, and
//   y = N(A + S . ((I - Q) y))
// with N a LayerNorm over D (FP-Mamba; arXiv 2503.10799, eq. 12 and 14), RMS (FP-Mamba-2) or the
// identity (the vector FP-RNN), as in any_norm, and Q a mixer of ops/low_rank.h. I - Q has rank r,
// so y follows from beta = U y in R^r. Derivation: ops/fp_mamba_solve.md.
//
// The root is the one that local iteration from y = 0 converges to. Where it does not converge, it
// is the root with the largest deviation before N, which always exists.
//
// An iteration is one evaluation of the equation in beta, r^2 multiply-adds, or one round of 32
// trial deviations, r^3 each. Cost a token: 2 r^2 + 5 r + 3 inner products of length D, and the
// iterations; reads (r + 2) D elements and writes D. The adjoint costs about the same.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>

#include <vector>

namespace fprnn {

struct LocalProblem {    // tokens = product of leading axes
  Tensor u, alpha;       // (..., r, D) with unit rows, (..., r); 1 <= r <= D
  Tensor offset, gain;   // (..., D): A and S
  Tensor weight = {};    // (D), of N; undefined: the identity
  Tensor bias = {};      // (D), of a LayerNorm; undefined with a weight: RMS
  real scale = 1;        // of the mixer
  bool in_order = true;  // householder; false: dplr
  real eps = real(1e-5);
};

// A y for each token.
struct LocalSolution {
  Tensor y;                         // (..., D)
  std::vector<int32_t> iterations;  // (tokens): max_iterations where the tolerance was missed
};

// The y of every token, with
//   max |N(A + S . ((I - Q) y)) - y| <= tolerance max |y|
// and exact after one iteration where N is the identity. A y that is so small a difference of large
// numbers that `real` has too few digits for the tolerance counts as missed. NaN among a token's
// numbers makes its y NaN.
// ShapeError: sizes do not fit. ValueError: tolerance or eps negative, scale or tolerance not
// finite, max_iterations below 1.
LocalSolution local_solve(const LocalProblem& problem, real tolerance, int64_t max_iterations);
// The same with the counts on the device, in `iterations` (tokens): the host does not wait for
// them.
Tensor local_solve(const LocalProblem& problem, real tolerance, int64_t max_iterations,
                   const IntTensor& iterations);

// The solution v (..., D) of
//   v = w + J^T v,  J = N' diag(S) (I - Q)
// where J is the map's Jacobian at the solution y (..., D) and w (..., D) the cotangent of y.
// Infinite or NaN where I - J is singular.
Tensor local_adjoint(const LocalProblem& problem, const Tensor& y, const Tensor& w);

struct LocalMap {
  const real* u;       // (tokens, r, D)
  const real* alpha;   // (tokens, r)
  const real* offset;  // (tokens, D)
  const real* gain;    // (tokens, D)
  const real* weight;  // (D), null: N is the identity
  const real* bias;    // (D), null: not a LayerNorm
  int64_t tokens, r, D;
  real scale;
  bool in_order;
  real eps;
};
struct LocalSolve {
  LocalMap map;
  real* y;              // (tokens, D)
  int32_t* iterations;  // (tokens)
  real tolerance;
  int64_t max_iterations;
};
struct LocalAdjoint {
  LocalMap map;
  const real* y;  // (tokens, D)
  const real* w;  // (tokens, D)
  real* v;        // (tokens, D)
};
void run(Cpu, const LocalSolve&);
void run(Cpu, const LocalAdjoint&);
void run(Cuda, const LocalSolve&);
void run(Cuda, const LocalAdjoint&);

}  // namespace fprnn
