// What a token of FP-Mamba makes of its projections before the scan (models/fp_mamba.h): the channels
// mixed, and the directions of the state,
//   p_t = projected_t + from_y_{t-1}
//   mixed_t = Q(p_t)(x_t - y_t) + y_t,   b_t = nrm(p_t),   c_t = nrm(p_t)
// with the mixer's numbers first in p, b and c where `directions` says. from_y is what a product
// makes of y, a step ahead: so neither y nor the product is shifted or added up in memory.
// On a GPU one kernel each way, for householder and dplr by rows (fp_mamba_mix.md), for a Kronecker product
// by the team that a sweep has (cuda/kronecker_mix.cu). Where there is no room for that, op by op:
// then a GPU makes all that p says in one kernel each way.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

// What comes out, where a sweep has computed it (ops/fp_mamba_sweep.h): all three or none. Without a kernel for the gradient
// a trace is not used.
struct FpMambaMixTrace {
  Tensor mixed;  // (B, T, D)
  Tensor b, c;   // (B, T, N)
};
struct FpMambaMixInputs {
  Var projected;      // (B, T, P)
  Var from_y;         // (B, T, P) or undefined for zero
  Var from_previous;  // (B, P) or undefined for zero: what p_0 has instead
  Var x;              // (B, T, D)
  Var y;              // (B, T, D)
  SweepMixer mixer;
  int64_t N;           // states
  int64_t directions;  // where p has N numbers of b and then N of c
  bool bc_norm = true;
  real eps = static_cast<real>(1e-5);
};
struct FpMambaMixResult {
  Var mixed;  // (B, T, D)
  Var b, c;   // (B, T, N)
};
// ShapeError: shapes that do not fit, or a part of a trace. ValueError: eps is not positive. UsageError: inputs of
// several Contexts.
FpMambaMixResult fp_mamba_mix(const FpMambaMixInputs& inputs, const FpMambaMixTrace& trace = {});

struct FpMambaMixForward {
  const real* projected;      // (B, T, P)
  const real* from_y;         // (B, T, P) or null
  const real* from_previous;  // (B, P) or null
  const real* x;              // (B, T, D)
  const real* y;              // (B, T, D)
  real* mixed;                // (B, T, D)
  real* b;                    // (B, T, N)
  real* c;                    // (B, T, N)
  int64_t B, T, D, N, P, directions;
  SweepMixer mixer;
  bool bc_norm;
  real eps;
};
struct FpMambaMixBackward {
  FpMambaMixForward forward;  // its inputs
  const real* dmixed;         // (B, T, D)
  const real* db;             // (B, T, N)
  const real* dc;             // (B, T, N)
  real* dprojected;           // (B, T, P)
  real* dfrom_y;              // (B, T, P) or null
  real* dfrom_previous;       // (B, P) or null
  real* dx;                   // (B, T, D) or null
  real* dy;                   // (B, T, D) or null
};
// What p says for any mixer: SiLU of its first V numbers, sigmoid of G after them, b and c.
struct FpMambaNumbersForward {
  const real* projected;      // (B, T, P)
  const real* from_y;         // (B, T, P) or null
  const real* from_previous;  // (B, P) or null
  real* vectors;              // (B, T, V)
  real* gates;                // (B, T, G)
  real* b;                    // (B, T, N)
  real* c;                    // (B, T, N)
  int64_t B, T, P, V, G, N, directions;
  bool bc_norm;
  real eps;
};
struct FpMambaNumbersBackward {
  FpMambaNumbersForward forward;  // its inputs
  const real* dvectors;           // (B, T, V)
  const real* dgates;             // (B, T, G)
  const real* db;                 // (B, T, N)
  const real* dc;                 // (B, T, N)
  real* dprojected;               // (B, T, P)
  real* dfrom_y;                  // (B, T, P) or null
  real* dfrom_previous;           // (B, P) or null
};
bool supports(Cuda, const FpMambaNumbersForward&);
void run(Cuda, const FpMambaNumbersForward&);
void run(Cuda, const FpMambaNumbersBackward&);

// Whether there is a kernel for these sizes and this mixer.
bool supports(Cuda, const FpMambaMixForward&);
void run(Cuda, const FpMambaMixForward&);
void run(Cuda, const FpMambaMixBackward&);

}  // namespace fprnn
