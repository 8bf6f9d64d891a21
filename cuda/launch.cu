#include <fprnn/core/check.h>
#include <fprnn/cuda/launch.cuh>

namespace fprnn::cuda {

void launch_failed(cudaError_t status, std::string_view kernel, const Grid& grid) {
  throw DeviceError(
      "cuda", "a kernel must run: name, blocks, threads, shared bytes and CUDA's message",
      std::array{describe(kernel), describe(grid.blocks), describe(grid.threads),
                 describe(grid.shared_bytes), std::string(cudaGetErrorString(status))});
}

}  // namespace fprnn::cuda
