// The sequential solver in one kernel (cuda/fp_mamba_persistent.cu).
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/fp_mamba_sweep.h>

namespace fprnn::cuda {

// Whether it is the faster way for these sizes; false where they do not fit.
bool persists(Cuda cuda, const FpMambaSweep& args);
void run_persistent(Cuda cuda, const FpMambaSweep& args);

}  // namespace fprnn::cuda
