// What a Context of a GPU holds: one stream, on which everything runs in order unless a function
// says that it runs side by side, and the handles that live as long as it.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <fprnn/core/device.h>
#include <fprnn/core/fault.h>
#include <fprnn/cuda/forms.h>

#include <array>
#include <functional>
#include <map>

namespace fprnn {

// What the choice of a product's algorithm depends on (cuda/gemm.cu).
using ProductKind = std::array<int64_t, 11>;

struct CudaDevice {
  explicit CudaDevice(const ContextOptions& options)
      : matmul_precision(options.matmul_precision),
        synchronise(options.synchronise),
        shared_limit(options.shared_memory_limit) {}
  void open();  // once; what it made goes with the device even if it throws
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  MatmulPrecision matmul_precision;
  bool synchronise;
  int64_t shared_limit;     // 0: none
  cuda::Forms gpu_forms{};  // what the GPU could do
  cuda::Forms forms{};      // what the options leave of it

  cublasLtHandle_t blas = nullptr;
  void* workspace = nullptr;  // of cuBLAS
  // What runs beside, made when it is needed first: a stream, its workspace, and where both part and meet.
  cudaStream_t other_stream = nullptr;
  void* other_workspace = nullptr;
  cudaEvent_t part = nullptr, meet = nullptr;
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;
  std::map<ProductKind, cublasLtMatmulAlgo_t> algorithms;

  // Where kernels note a broken rule: the record, in host memory that the device sees, belongs to
  // whoever changes `noted` from 0 to 1.
  Fault* fault = nullptr;
  Fault* fault_on_device = nullptr;
  int* noted = nullptr;
  bool capturing = false;  // into a graph: nothing may be waited for
};

namespace cuda {

// DeviceError with what was being done and CUDA's own message; MemoryError where memory ran out.
void check(cudaError_t status, std::string_view what);
void check(cublasStatus_t status, std::string_view what);

inline CudaDevice& gpu(Cuda cuda) { return cuda.context.gpu(); }
inline cudaStream_t stream(Cuda cuda) { return gpu(cuda).stream; }

// Two pieces of work that need not wait for each other; what comes next waits for both. Neither may take memory
// that it gives back before.
void side_by_side(Cuda cuda, const std::function<void()>& one, const std::function<void()>& other);

// What a kernel needs to note a fault.
struct FaultNote {
  Fault* fault;
  int* noted;

  __device__ void operator()(Fault::Rule rule, int64_t value, int64_t position,
                             int64_t bound) const {
    if (atomicExch(noted, 1) != 0) return;
    fault->value = value;
    fault->position = position;
    fault->bound = bound;
    __threadfence_system();
    fault->rule = rule;
  }
};
inline FaultNote fault_note(Cuda cuda) { return {gpu(cuda).fault_on_device, gpu(cuda).noted}; }

}  // namespace cuda

}  // namespace fprnn
