// The sequential solver of FP-Mamba-2 in one kernel.
#include <fprnn/cuda/fp_mamba_persistent_kernel.cuh>

namespace fprnn::cuda {

template bool persists<OfFpMamba2>(Cuda, const FpMambaSweep&);
template void run_persistent<OfFpMamba2>(Cuda, const FpMambaSweep&);

}  // namespace fprnn::cuda
