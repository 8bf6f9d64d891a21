// The adjoint sweep where N is a LayerNorm.
#include <fprnn/cuda/fp_mamba_adjoint_kernel.cuh>

namespace fprnn::cuda {

template bool fits_adjoint<true>(Cuda, const FpMambaAdjoint&);
template void run_adjoint<true>(Cuda, const FpMambaAdjoint&);

}  // namespace fprnn::cuda
