// The sequential solver (ops/fp_mamba_sweep.h): in one kernel where that is faster
// (cuda/fp_mamba_persistent_kernel.cuh), else step by step (cuda/fp_mamba_step_kernel.cuh); and its
// adjoint (cuda/fp_mamba_adjoint_kernel.cuh).
#include <fprnn/cuda/fp_mamba_adjoint.cuh>
#include <fprnn/cuda/fp_mamba_persistent.cuh>

namespace fprnn {

using namespace cuda;

bool supports(Cuda cuda, const FpMambaSweep& args) {
  return args.head > 0 ? fits_step_by_step<OfFpMamba2>(cuda, args)
                       : fits_step_by_step<OfFpMamba>(cuda, args);
}

namespace {

template <class Of>
void run_as(Cuda cuda, const FpMambaSweep& args) {
  persists<Of>(cuda, args) ? run_persistent<Of>(cuda, args) : run_step_by_step<Of>(cuda, args);
}

}  // namespace

void run(Cuda cuda, const FpMambaSweep& args) {
  if (args.B * args.T * args.D == 0) return;
  args.head > 0 ? run_as<OfFpMamba2>(cuda, args) : run_as<OfFpMamba>(cuda, args);
}

bool supports(Cuda cuda, const FpMambaAdjoint& args) {
  return args.norm_bias != nullptr ? fits_adjoint<true>(cuda, args)
                                   : fits_adjoint<false>(cuda, args);
}

void run(Cuda cuda, const FpMambaAdjoint& args) {
  args.norm_bias != nullptr ? run_adjoint<true>(cuda, args) : run_adjoint<false>(cuda, args);
}

}  // namespace fprnn
