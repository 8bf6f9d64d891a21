// From an op to its kernel. An op's work is a struct that names every pointer with its shape, and
// two overloads that do it, run(Cpu, const Args&) and run(Cuda, const Args&). launch picks one. The
// CUDA overloads are declared and, in a CPU-only build, neither defined nor called. An op that runs
// on the CPU alone has no CUDA overload; its struct says so and names the op:
//   static constexpr std::string_view kCpuOnly = "its_name";
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

// Whether this build has the CUDA backend, with a GPU or not.
constexpr bool built_with_cuda() { return FPRNN_HAS_CUDA; }

// What a Context of a GPU is made of (cuda/device.cu, cuda/memory.cu; core/no_gpu.cpp in their
// place).
std::shared_ptr<CudaDevice> open_gpu(const ContextOptions& options);
std::unique_ptr<Memory> gpu_memory(std::shared_ptr<CudaDevice> gpu, const ContextOptions& options);
bool find_gpu();
std::string describe_gpu(Cuda cuda);
void synchronise(Cuda cuda);

// Throws a DeviceError in the op's name: it runs on the CPU alone.
[[noreturn]] void refuse_gpu(std::string_view op);

// Runs the overload of the Context's device. DeviceError: a GPU, and the op runs on the CPU alone.
template <class Args>
void launch(const Context& context, const Args& args) {
  if constexpr (built_with_cuda()) {
    if (context.device() == DeviceKind::cuda) {
      if constexpr (requires { Args::kCpuOnly; })
        refuse_gpu(Args::kCpuOnly);
      else
        run(Cuda{context}, args);
      return;
    }
  }
  run(Cpu{context}, args);
}

// What only a GPU has kernels for, and those not for all sizes.
template <class Args>
bool has_fused(const Context& context, const Args& args) {
  if constexpr (built_with_cuda())
    return context.device() == DeviceKind::cuda && supports(Cuda{context}, args);
  return false;
}
template <class Args>
void launch_fused(const Context& context, const Args& args) {
  if constexpr (built_with_cuda()) run(Cuda{context}, args);
}

}  // namespace fprnn
