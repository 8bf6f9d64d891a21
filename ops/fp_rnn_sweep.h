// The vector FP-RNN's fixed point and its exact adjoint, for all sequences at once, one time step
// after the other: what models/solvers/sequential does op by op, as contracts for a device that has
// kernels for it. The equation is that of models/fp_rnn.h:
//   y_t = f_t = lambda_t . f_{t-1} + (1 - lambda_t) . (Q_t (bx_t - y_t) + y_t)
// with Q_t computed from projected_t + W y_{t-1}. The adjoint goes back in time and solves
//   v_t = w_t + (df_t / dy_t)^T v_t
// where w_t is g_t and the cotangents that step t + 1 sends to y_t, through its y_{t-1} and through
// f_t.
// Cost a step: 2 B D P flops.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

struct FpRnnSweep {
  const real* bx;         // (B, T, D)
  const real* projected;  // (B, T, P): the mixer's numbers, their part from x
  const real* lambda;     // (B, T, D)
  const real* weight_y;   // (P, D) or null: W, their part from y_{t-1}
  const real* previous;   // (B, D) or null: y before the first step
  const real* state;      // (B, D) or null: f there
  real* y;                // (B, T, D)
  real* state_out;        // (B, D)
  int32_t* iterations;    // (B): the most of any step
  real* residual;         // (B): the largest of any step
  int64_t B, T, D, P;
  SweepMixer mixer;
  real eps, tolerance;
  int64_t max_iterations;
};
struct FpRnnAdjoint {
  const real* bx;        // (B, T, D)
  const real* y;         // (B, T, D): the solution
  const real* p;         // (B, T, P): from x_t and y_{t-1}
  const real* lambda;    // (B, T, D)
  const real* weight_y;  // (P, D) or null
  real* v;               // (B, T, D): g on entry, v on return
  int32_t* iterations;   // (B): raised to the most that a step's equation took
  int64_t B, T, D, P;
  SweepMixer mixer;
  real eps;
  real tolerance;          // of a Kronecker product's local adjoint, which is iterated
  int64_t max_iterations;  // likewise
};
// Whether there are kernels for these sizes and this mixer.
bool supports(Cuda, const FpRnnSweep&);
bool supports(Cuda, const FpRnnAdjoint&);
void run(Cuda, const FpRnnSweep&);
void run(Cuda, const FpRnnAdjoint&);

}  // namespace fprnn
