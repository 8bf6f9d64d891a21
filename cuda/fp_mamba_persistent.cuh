// The sequential solver (ops/fp_mamba_sweep.h) in one kernel for all steps, or one kernel a step. Of
// is the layer, OfFpMamba or OfFpMamba2 (cuda/fp_mamba_step.cuh); each of these is compiled for
// either in a file of its own.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/fp_mamba_sweep.h>

namespace fprnn::cuda {

struct OfFpMamba;
struct OfFpMamba2;

// In one kernel (cuda/fp_mamba_persistent_kernel.cuh): whether that is the faster way for these sizes; false
// where they do not fit.
template <class Of>
bool persists(Cuda cuda, const FpMambaSweep& args);
template <class Of>
void run_persistent(Cuda cuda, const FpMambaSweep& args);
// A product and a kernel a step (cuda/fp_mamba_step_kernel.cuh), for all sizes that a team can hold.
template <class Of>
bool fits_step_by_step(Cuda cuda, const FpMambaSweep& args);
template <class Of>
void run_step_by_step(Cuda cuda, const FpMambaSweep& args);

}  // namespace fprnn::cuda
