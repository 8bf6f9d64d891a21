// From the projections p of a token of FP-Mamba to what its scan reads (models/fp_mamba.h): the
// mixed channels, and the directions b and c of the state,
//   p_t = projected_t + from_y_{t-1}
//   mixed_t = Q(p_t)(x_t - y_t) + y_t
//   b_t = nrm(p_t's numbers of b),  c_t = nrm(p_t's numbers of c)
// The mixer's numbers come first in p, those of b and c from `bc_offset` on. from_y_t = W y_t is
// read one step later than it is computed, so neither y nor the product is shifted or added up in
// memory. On a GPU it is one kernel each way: for householder and dplr by rows (fp_mamba_mix.md),
// for a Kronecker product by the team of a sweep (cuda/kronecker_mix.cu). Sizes without such a
// kernel run op by op, with one kernel each way for all that depends on p alone.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn {

// The results, where a sweep has computed them already (ops/fp_mamba_sweep.h): all three or none.
// Not used without a kernel for the gradient.
struct FpMambaMixTrace {
  Tensor mixed;  // (B, T, D)
  Tensor b, c;   // (B, T, N)
};
struct FpMambaMixInputs {
  Var projected;           // (B, T, P)
  Var projected_y;         // (B, T, P) or undefined for zero
  Var projected_previous;  // (B, P) or undefined for zero: p_0 reads it instead
  Var x;                   // (B, T, D)
  Var y;                   // (B, T, D)
  SweepMixer mixer;
  int64_t N;          // states
  int64_t bc_offset;  // where p has N numbers of b and then N of c
  bool bc_norm = true;
  real eps = static_cast<real>(1e-5);
};
struct FpMambaMixResult {
  Var mixed;  // (B, T, D)
  Var b, c;   // (B, T, N)
};
// ShapeError: shapes that do not fit, or a part of a trace. ValueError: eps is not positive.
// UsageError: inputs of several Contexts.
FpMambaMixResult fp_mamba_mix(const FpMambaMixInputs& inputs, const FpMambaMixTrace& trace = {});

// What the contracts have in common.
struct FpMambaTokens {
  const real* projected;           // (B, T, P)
  const real* projected_y;         // (B, T, P) or null
  const real* projected_previous;  // (B, P) or null
  real* b = nullptr;               // (B, T, N)
  real* c = nullptr;               // (B, T, N)
  int64_t B, T, N, P, bc_offset;
  bool bc_norm;
  real eps;
};
struct FpMambaTokensBackward {
  const real* db;             // (B, T, N)
  const real* dc;             // (B, T, N)
  real* dprojected;           // (B, T, P)
  real* dprojected_y;         // (B, T, P) or null
  real* dprojected_previous;  // (B, P) or null
};
struct FpMambaMixForward : FpMambaTokens {
  const real* x = nullptr;  // (B, T, D)
  const real* y = nullptr;  // (B, T, D)
  real* mixed = nullptr;    // (B, T, D)
  int64_t D = 0;
  SweepMixer mixer = {};
};
struct FpMambaMixBackward : FpMambaTokensBackward {
  FpMambaMixForward forward;  // its inputs
  const real* dmixed;         // (B, T, D)
  real* dx;                   // (B, T, D) or null
  real* dy;                   // (B, T, D) or null
};
// Whether there is a kernel for these sizes and this mixer.
bool supports(Cuda, const FpMambaMixForward&);
void run(Cuda, const FpMambaMixForward&);
void run(Cuda, const FpMambaMixBackward&);

// What depends on p alone, for any mixer: SiLU of its first V numbers, sigmoid of the next G, b and
// c.
struct FpMambaNumbersForward : FpMambaTokens {
  real* vectors = nullptr;  // (B, T, V)
  real* gates = nullptr;    // (B, T, G)
  int64_t V = 0, G = 0;
};
struct FpMambaNumbersBackward : FpMambaTokensBackward {
  FpMambaNumbersForward forward;  // its inputs
  const real* dvectors;           // (B, T, V)
  const real* dgates;             // (B, T, G)
};
bool supports(Cuda, const FpMambaNumbersForward&);
void run(Cuda, const FpMambaNumbersForward&);
void run(Cuda, const FpMambaNumbersBackward&);

}  // namespace fprnn
