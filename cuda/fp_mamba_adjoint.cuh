// The adjoint sweep (ops/fp_mamba_sweep.h), where N is a LayerNorm or RMS, each compiled in a file of
// its own (cuda/fp_mamba_adjoint_kernel.cuh).
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/fp_mamba_sweep.h>

namespace fprnn::cuda {

template <bool kCentred>
bool fits_adjoint(Cuda cuda, const FpMambaAdjoint& args);
template <bool kCentred>
void run_adjoint(Cuda cuda, const FpMambaAdjoint& args);

}  // namespace fprnn::cuda
