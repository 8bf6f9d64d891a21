// The sequential solver of FP-Mamba step by step.
#include <fprnn/cuda/fp_mamba_step_kernel.cuh>

namespace fprnn::cuda {

template bool fits_step_by_step<OfFpMamba>(Cuda, const FpMambaSweep&);
template void run_step_by_step<OfFpMamba>(Cuda, const FpMambaSweep&);

}  // namespace fprnn::cuda
