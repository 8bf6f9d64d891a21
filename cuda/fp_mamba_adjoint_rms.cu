// The adjoint sweep where N is RMS.
#include <fprnn/cuda/fp_mamba_adjoint_kernel.cuh>

namespace fprnn::cuda {

template bool fits_adjoint<false>(Cuda, const FpMambaAdjoint&);
template void run_adjoint<false>(Cuda, const FpMambaAdjoint&);

}  // namespace fprnn::cuda
