// FP-Mamba's and FP-Mamba-2's fixed point and its exact adjoint, for all sequences at once, one time
// step after the other: what models/solvers/sequential does op by op, as contracts for a device that
// has kernels for it. The equations are those of models/fp_mamba.h and, with `head` and without
// norm_bias, of models/fp_mamba2.h with one group: a head has one step size and one decay, N is RMS.
// A step is a product y_{t-1} W^T and one
// kernel, which computes the mixer, b and c, decays the state, solves the local equation
// (ops/fp_mamba_solve.md) and leaves what the state gains to the next step. Where W is small, one
// kernel does all steps. Cost a step: 2 B D P flops, B D N exponentials, one read and one write of
// the state.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

// What the sweep saves, so that recording f at the solution does not compute it again: nothing, the
// products alone, or everything.
struct FpMambaSweepTrace {
  // y W^T in the sweep's precision (in another, f would be another map): that of y_t, (B, T, P),
  // whose last step is not written, and that of the y before the first step, (B, P). Null without
  // weight_y; of_previous also without previous.
  real *product, *of_previous;
  real* mixed;        // (B, T, D): the result of fp_mamba_mix
  real *b, *c;        // (B, T, N)
  real* scanned;      // (B, T, D): the result of selective_scan or ssd_scan
  real* checkpoints;  // and its checkpoints; null also where it has one chunk only
  real* statistics;   // (B, T, 2): what gated_norm saves
};

// P counts the mixer's numbers, perhaps some padding, then N numbers of b and N of c.
struct FpMambaSweep {
  const real* x;            // (B, T, D)
  const real* projected;    // (B, T, P): the P numbers, their part from x
  const real* delta;        // (B, T, D); FP-Mamba-2, whose heads are H = D / head: (B, T, H)
  const real* z;            // (B, T, D) or null: the gate inside the loop
  const real* keep;         // (B, T) or null
  const real* weight_y;     // (P, D) or null: W, their part from y_{t-1}
  const real* a;            // (D, N); FP-Mamba-2: (H)
  const real* skip;         // (D)
  const real* delta_bias;   // (D); FP-Mamba-2: (H)
  const real* norm_weight;  // (D)
  const real* norm_bias;    // (D); FP-Mamba-2: null
  const real* previous;     // (B, D) or null: y before the first step
  const real* state;        // (B, D, N) or null: the scan's state there
  real* y;                  // (B, T, D)
  real* state_out;          // (B, D, N); meaningless unless state_wanted
  int32_t* iterations;      // (B): the most of any step
  real* residual;           // (B): the largest of any step, of the whole f at y
  FpMambaSweepTrace trace;
  int64_t B, T, D, N, P;
  SweepMixer mixer;
  bool bc_norm, state_wanted;
  real eps, tolerance;
  int64_t max_iterations;
  int64_t head = 0;  // channels of a head of FP-Mamba-2; 0: FP-Mamba
};
// Whether there is a kernel for these sizes and this mixer.
bool supports(Cuda, const FpMambaSweep&);
void run(Cuda, const FpMambaSweep&);

// The adjoint goes back in time and solves (ops/fp_mamba_solve.md)
//   v_t = w_t + (df_t / dy_t)^T v_t
// where w_t is g_t and the cotangents that step t + 1 sends to y_t, through its y_{t-1} (a product
// with W) and through the state. What does not depend on v is computed first, for all steps at
// once. Cost a step: 2 B D P flops, B D N exponentials, two reads and one write of B D N. Memory:
// the states of a chunk of as many steps as fit 2^26 numbers, at least one, and one state a chunk.
struct FpMambaAdjoint {
  const real* x;            // (B, T, D)
  const real* y;            // (B, T, D): the solution
  const real* p;            // (B, T, P): from x_t and y_{t-1}, as in FpMambaSweep
  const real* dt;           // (B, T, D): softplus(delta + delta_bias)
  const real* mixed;        // (B, T, D): Q (x - y) + y
  const real* b;            // (B, T, N)
  const real* z;            // (B, T, D) or null
  const real* keep;         // (B, T) or null
  const real* weight_y;     // (P, D) or null
  const real* a;            // (D, N)
  const real* skip;         // (D)
  const real* norm_weight;  // (D)
  const real* norm_bias;    // (D) or null: N is RMS
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
