// The exact adjoint of FP-Mamba's fixed point (autograd/fixed_point.md),
//   v = g + J^T v
// for all sequences at once, from the last time step to the first: what models/solvers/sequential
// does op by op on tapes, as one contract for a device that has kernels for it. At the solution
// everything but v is known, so all that does not depend on v is computed first, for all steps at
// once.
//
// Let w_t be g_t and the cotangents that step t + 1 sends to y_t, through its y_{t-1} (a product
// with W) and through the state. Then v_t solves (ops/fp_mamba_solve.md)
//   v_t = w_t + (df_t / dy_t)^T v_t
// Cost a step: 2 B D P flops, B D N exponentials, two reads and one write of B D N. Memory: the
// states of a chunk of as many steps as fit 2^26 numbers, at least one, and one state a chunk.
#pragma once

#include <fprnn/ops/fp_mamba_sweep.h>

namespace fprnn {

struct FpMambaAdjoint {
  const real* x;            // (B, T, D)
  const real* y;            // (B, T, D): the solution
  const real* p;            // (B, T, P): from x_t and y_{t-1}, as in FpMambaSweep
  const real* dt;           // (B, T, D): softplus(delta + delta_bias)
  const real* mixed;        // (B, T, D): Q (x - y) + y
  const real* b;            // (B, T, N)
  const real* z;            // (B, T, D) or null
  const real* keep;         // (B, T) or null
  const real* from_y;       // (P, D) or null
  const real* a;            // (D, N)
  const real* skip;         // (D)
  const real* norm_weight;  // (D)
  const real* norm_bias;    // (D)
  const real* state;        // (B, D, N) or null: before the first step
  real* v;                  // (B, T, D): g on entry, v on return
  int32_t* iterations;      // (B): raised to the most that a step's equation took
  int64_t B, T, D, N, P;
  SweepMixer mixer;
  bool bc_norm;
  real eps;
  real tolerance;          // of a Kronecker product's local adjoint, which is iterated
  int64_t max_iterations;  // likewise
};
bool supports(Cuda, const FpMambaAdjoint&);
void run(Cuda, const FpMambaAdjoint&);

}  // namespace fprnn
