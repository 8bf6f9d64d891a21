// The sequential solver (ops/fp_mamba_sweep.h) in one kernel for all steps, or one kernel a step.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/fp_mamba_sweep.h>

namespace fprnn::cuda {

// In one kernel (cuda/fp_mamba_persistent.cu): whether that is the faster way for these sizes; false where they
// do not fit.
bool persists(Cuda cuda, const FpMambaSweep& args);
void run_persistent(Cuda cuda, const FpMambaSweep& args);
// A product and a kernel a step (cuda/fp_mamba_sweep.cu), for all sizes.
void run_step_by_step(Cuda cuda, const FpMambaSweep& args);

}  // namespace fprnn::cuda
