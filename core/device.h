// From an op to its kernel. An op's work is a struct that names every pointer with its shape, and two
// overloads that do it, run(Cpu, const Args&) and run(Cuda, const Args&). launch picks one. The CUDA
// overloads are declared and, in a CPU-only build, neither defined nor called.
//
// This file is the only place in the library that knows whether CUDA was built.
#pragma once

#include <fprnn/core/context.h>

namespace fprnn {

struct Cpu {
  const Context& context;
};

struct Cuda {
  const Context& context;
};

constexpr bool built_with_cuda() { return FPRNN_HAS_CUDA; }

// What a Context of a GPU is made of (cuda/device.cu, cuda/memory.cu; core/no_gpu.cpp in their place).
std::shared_ptr<CudaDevice> open_gpu(const ContextOptions& options);
std::unique_ptr<Memory> gpu_memory(std::shared_ptr<CudaDevice> gpu, const ContextOptions& options);
bool find_gpu();
std::string describe_gpu(Cuda cuda);
void synchronise(Cuda cuda);

template <class Args>
void launch(const Context& context, const Args& args) {
  if constexpr (built_with_cuda()) {
    if (context.device() == DeviceKind::cuda) {
      run(Cuda{context}, args);
      return;
    }
  }
  run(Cpu{context}, args);
}

// What only a GPU has kernels for, and those not for all sizes.
template <class Args>
bool supported_on_gpu(const Context& context, const Args& args) {
  if constexpr (built_with_cuda())
    return context.device() == DeviceKind::cuda && supports(Cuda{context}, args);
  return false;
}
template <class Args>
void launch_on_gpu(const Context& context, const Args& args) {
  if constexpr (built_with_cuda()) run(Cuda{context}, args);
}

}  // namespace fprnn
