// What a build without CUDA has in place of cuda/device.cu, memory.cu and graph.cu. No GPU is found
// and none is opened, so nothing below that takes one is ever called.
#include <fprnn/core/check.h>
#include <fprnn/core/graph.h>

namespace fprnn {

bool find_gpu() { return false; }

std::shared_ptr<CudaDevice> open_gpu(const ContextOptions&) {
  throw DeviceError("context", "this build has no CUDA backend");
}

std::unique_ptr<Memory> gpu_memory(std::shared_ptr<CudaDevice>, const ContextOptions&) {
  return nullptr;
}

std::string describe_gpu(Cuda) { return {}; }

void synchronise(Cuda) {}

std::unique_ptr<Graph> capture_graph(Cuda, const std::function<void()>&) { return nullptr; }

}  // namespace fprnn
