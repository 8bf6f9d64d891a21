// FP-Mamba's gate after the fixed point (models/fp_mamba.h):
//   out_t = SiLU(z_t + from_y_{t-1}) . y_t
// where from_y_t = W_z y_t is read one step later than it is computed.
// Cost on a GPU: three reads and one write an element; backward four reads and three writes.
// Without a kernel it runs op by op.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// z, projected_y and y (B, T, D), projected_previous (B, D), which step 0 reads in place of projected_y, or
// undefined for zero -> (B, T, D). ShapeError: shapes that do not fit.
Var fp_mamba_gate(const Var& z, const Var& projected_y, const Var& projected_previous,
                  const Var& y);

struct FpMambaGateForward {
  const real* z;                   // (B, T, D)
  const real* projected_y;         // (B, T, D)
  const real* projected_previous;  // (B, D) or null
  const real* y;                   // (B, T, D)
  real* out = nullptr;             // (B, T, D)
  int64_t B, T, D;
};
struct FpMambaGateBackward {
  FpMambaGateForward forward;  // its inputs
  const real* dout;            // (B, T, D)
  real* dz;                    // (B, T, D)
  real* dprojected_y;          // (B, T, D)
  real* dprojected_previous;   // (B, D) or null
  real* dy;                    // (B, T, D)
};
bool supports(Cuda, const FpMambaGateForward&);
void run(Cuda, const FpMambaGateForward&);
void run(Cuda, const FpMambaGateBackward&);

}  // namespace fprnn
