// LayerNorm over the last axis of a gated vector:
//   v = SiLU(z) . x,   y = weight (v - mean v) / sqrt(variance v + eps) + bias
// Without z, v = x; without bias it is RMS,
//   y = weight v / sqrt(mean(v^2) + eps)
// Cost on a GPU: one read of x and z and one write; backward reads dy too and writes dx and dz. It
// keeps x, z and each row's mean and scale. Without a kernel it runs op by op.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// The result and the statistics, where a sweep on a GPU has computed them already
// (ops/fp_mamba_sweep.h): both or neither. Not used without a kernel.
struct GatedNormTrace {
  Tensor y;           // (..., D)
  Tensor statistics;  // (..., 2): mean and scale of each row
};
// x (..., D), z (..., D) or undefined, weight (D), bias (D) or undefined -> (..., D). ShapeError:
// sizes; ValueError: eps negative.
Var gated_norm(const Var& x, const Var& z, const Var& weight, const Var& bias, real eps,
               const GatedNormTrace& trace = {});

// The same for an iteration y = f(before), which is not recorded, with the residual of each row,
// (...),
//   max |y - before| / (max |y| + kResidualFloor)
// It costs a read of before (..., D), and is undefined without a kernel. ShapeError: as gated_norm;
// UsageError: an input is recorded.
struct GatedNormBeside {
  Var y;
  Tensor residual;
};
GatedNormBeside gated_norm_beside(const Tensor& before, const Var& x, const Var& z,
                                  const Var& weight, const Var& bias, real eps);

struct GatedNormForward {
  const real* x;                 // (rows, D)
  const real* z;                 // (rows, D) or null
  const real* weight;            // (D)
  const real* bias;              // (D), null: RMS
  real* y = nullptr;             // (rows, D)
  real* statistics = nullptr;    // (rows, 2): mean and scale; null if not wanted
  const real* before = nullptr;  // (rows, D) or null
  real* residual = nullptr;      // (rows): of y against before; null without it
  int64_t rows, D;
  real eps;
};
// Parameter gradients are sums over pieces of rows, which are added in order.
struct GatedNormBackward : GatedNormForward {  // y is not read, of bias whether there is one
  const real* dy = nullptr;                    // (rows, D)
  real* dx = nullptr;                          // (rows, D)
  real* dz = nullptr;                          // (rows, D) or null
  real* dweight = nullptr;                     // (D) or null, and dbias likewise
  real* dbias = nullptr;                       // (D); null also without bias
};
// Whether there is a kernel for this D.
bool supports(Cuda, const GatedNormForward&);
void run(Cuda, const GatedNormForward&);
void run(Cuda, const GatedNormBackward&);

}  // namespace fprnn
