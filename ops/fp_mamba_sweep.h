// FP-Mamba's fixed point, one time step of all sequences after the other: what
// models/fixed_point_layer does op by op, as one contract for a device that has kernels for it. The
// equations are those of models/fp_mamba.h; a step is a product y_{t-1} W^T and one kernel, which
// makes the mixer, b and c of it, decays the state, solves the local equation
// (ops/fp_mamba_solve.md) and hands what it adds to the state to the next step. Where W is small
// all steps are one kernel. Cost a step: 2 B D P flops, B D N exponentials, one read and one write
// of the state.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

// What f, recorded at the solution, needs of the sweep, so that it is not applied to it once more. Nothing, the
// products alone, or all of it.
struct FpMambaRecord {
  // y W^T as the sweep had it: in another precision f would be another map. Of y_t, (B, T, P), but
  // the last step's is not written; of what came before the first step, (B, P). Null without
  // from_y, the second without previous too.
  real *product, *of_previous;
  real* mixed;        // (B, T, D): what fp_mamba_mix makes of y
  real *b, *c;        // (B, T, N)
  real* scanned;      // (B, T, D): what selective_scan makes of that
  real* checkpoints;  // and keeps; null too where it has but one chunk
  real* statistics;   // (B, T, 2): what gated_norm keeps of that
};

// P: the mixer's numbers, perhaps some that mean nothing, then N of b and N of c.
struct FpMambaSweep {
  const real* x;            // (B, T, D)
  const real* projected;    // (B, T, P): what mixer, b and c have from x
  const real* delta;        // (B, T, D)
  const real* z;            // (B, T, D) or null: the gate inside the loop
  const real* keep;         // (B, T) or null
  const real* from_y;       // (P, D) or null: what they have from y_{t-1}
  const real* a;            // (D, N)
  const real* skip;         // (D)
  const real* delta_bias;   // (D)
  const real* norm_weight;  // (D)
  const real* norm_bias;    // (D)
  const real* previous;     // (B, D) or null: y before the first step
  const real* state;        // (B, D, N) or null: the scan's state there
  real* y;                  // (B, T, D)
  real* state_out;          // (B, D, N); if it is not wanted, what is left there means nothing
  int32_t* iterations;      // (B): the most of any step
  real* residual;           // (B): the largest of any step, of the whole f at y
  FpMambaRecord record;
  int64_t B, T, D, N, P;
  SweepMixer mixer;
  bool bc_norm, state_wanted;
  real eps, tolerance;
  int64_t max_iterations;
};
// Whether there is a kernel for these sizes and this mixer.
bool supports(Cuda, const FpMambaSweep&);
void run(Cuda, const FpMambaSweep&);

}  // namespace fprnn
