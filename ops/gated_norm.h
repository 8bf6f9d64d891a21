// LayerNorm of what a gate lets through, over the last axis:
//   v = SiLU(z) . x,   y = weight (v - mean v) / sqrt(variance v + eps) + bias
// Without z the gate is open. Cost on a GPU: one read of x and z and one write; backward reads dy besides
// and writes dx and dz. It keeps x, z and each row's mean and scale. Elsewhere op by op.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// What the norm computes, where a sweep on a GPU has done so (ops/fp_mamba_sweep.h): both or neither. Without a kernel a
// trace is not used.
struct GatedNormTrace {
  Tensor y;           // (..., D)
  Tensor statistics;  // (..., 2): mean and scale of each row
};
// x (..., D), z (..., D) or undefined, weight (D), bias (D) -> (..., D). ShapeError: sizes;
// ValueError: eps negative.
Var gated_norm(const Var& x, const Var& z, const Var& weight, const Var& bias, real eps,
               const GatedNormTrace& trace = {});

// The same without a record, as an iteration's f(y_before), and how far each row of it is from the row of y_before
// (..., D): max |y - y_before| / (max |y| + kResidualFloor), of shape (...). It costs a read of
// that, and is undefined where there is no kernel. ShapeError: as gated_norm; UsageError: something
// is recorded.
struct GatedNormBeside {
  Var y;
  Tensor residual;
};
GatedNormBeside gated_norm_beside(const Tensor& before, const Var& x, const Var& z,
                                  const Var& weight, const Var& bias, real eps);

struct GatedNormForward {
  const real* x;       // (rows, D)
  const real* z;       // (rows, D) or null
  const real* weight;  // (D)
  const real* bias;    // (D)
  real* y;             // (rows, D)
  real* statistics;    // (rows, 2): mean and scale; null if nobody will ask
  const real* before;  // (rows, D) or null, and
  real* residual;      // (rows): y beside that
  int64_t rows, D;
  real eps;
};
// Parameter gradients are sums over pieces of rows, which are added in order.
struct GatedNormBackward {
  const real* x;           // (rows, D)
  const real* z;           // (rows, D) or null
  const real* weight;      // (D)
  const real* statistics;  // (rows, 2)
  const real* dy;          // (rows, D)
  real* dx;                // (rows, D)
  real* dz;                // (rows, D) or null
  real* dweight;           // (D) or null, and dbias likewise
  real* dbias;             // (D)
  int64_t rows, D;
};
// Whether there is a kernel for this D.
bool supports(Cuda, const GatedNormForward&);
void run(Cuda, const GatedNormForward&);
void run(Cuda, const GatedNormBackward&);

}  // namespace fprnn
