// FP-DeltaNet's fixed point and its exact adjoint, for all sequences at once, one time step after the
// other: what models/solvers/sequential does op by op, as contracts for a device that has kernels for
// it. The equations are those of models/cells/delta.h and models/fixed_point_map.h, where N is RMS.
// With w = q - beta (k . q) k, u = S_{t-1}^T k and the step's solution y, in each head
//   offset = SiLU(z) . (exp(g) S_{t-1}^T w / sqrt(d_k) + gain . Q x)
//   c = beta (Q (x - y) + y - exp(g) u),  S_t = exp(g) S_{t-1} + k c^T
// A step is a product y_{t-1} W^T and one kernel, which leaves k c^T to the next step.
// Cost a step: 2 B D P flops, 6 B D d_k flops, one read and one write of the state.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

// H heads of K numbers of a key and V of a value, D = H V. P counts the mixer's numbers, perhaps
// some padding, then H K numbers of the keys and H K of the queries.
struct FpDeltaSweep {
  const real* x;            // (B, T, D)
  const real* projected;    // (B, T, P): the P numbers, their part from x
  const real* beta;         // (B, T, H)
  const real* g;            // (B, T, H) or null
  const real* z;            // (B, T, D) or null: the gate inside the loop
  const real* weight_y;     // (P, D) or null: W, their part from y_{t-1}
  const real* norm_weight;  // (D)
  const real* previous;     // (B, D) or null: y before the first step
  const real* state;        // (B, H, K, V) or null: S there
  real* y;                  // (B, T, D)
  real* state_out;          // (B, H, K, V); meaningless unless state_wanted
  int32_t* iterations;      // (B): the most of any step
  real* residual;           // (B): the largest of any step, of the whole f at y
  int64_t B, T, H, K, V, D, P;
  SweepMixer mixer;
  bool state_wanted;
  real eps, tolerance;
  int64_t max_iterations;
};
// Whether there is a kernel for these sizes and this mixer.
bool supports(Cuda, const FpDeltaSweep&);
void run(Cuda, const FpDeltaSweep&);

// The adjoint goes back in time and solves
//   v_t = w_t + (df_t / dy_t)^T v_t
// where w_t is g_t and the cotangents that step t + 1 sends to y_t, through its y_{t-1} (a product
// with W) and through the state. What does not depend on v is computed first, for all steps at
// once. Memory: the states of a chunk of as many steps as fit 2^26 numbers, at least one, and one
// state a chunk.
struct FpDeltaAdjoint {
  const real* x;            // (B, T, D)
  const real* y;            // (B, T, D): the solution
  const real* p;            // (B, T, P): from x_t and y_{t-1}
  const real* mixed;        // (B, T, D): Q (x - y) + y
  const real* k;            // (B, T, H, K): the keys
  const real* beta;         // (B, T, H)
  const real* g;            // (B, T, H) or null
  const real* z;            // (B, T, D) or null
  const real* weight_y;     // (P, D) or null
  const real* norm_weight;  // (D)
  const real* state;        // (B, H, K, V) or null: before the first step
  real* v;                  // (B, T, D): the cotangent of y on entry, v on return
  int32_t* iterations;      // (B): raised to the most that a step's equation took
  int64_t B, T, H, K, V, D, P;
  SweepMixer mixer;
  real eps;
  real tolerance;          // of a Kronecker product's local adjoint, which is iterated
  int64_t max_iterations;  // likewise
};
bool supports(Cuda, const FpDeltaAdjoint&);
void run(Cuda, const FpDeltaAdjoint&);

}  // namespace fprnn
