// The sequential solver of FP-Mamba in one kernel.
#include <fprnn/cuda/fp_mamba_persistent_kernel.cuh>

namespace fprnn::cuda {

template bool persists<OfFpMamba>(Cuda, const FpMambaSweep&);
template void run_persistent<OfFpMamba>(Cuda, const FpMambaSweep&);

}  // namespace fprnn::cuda
