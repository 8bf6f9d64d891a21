// Starting kernels. Symbols are those of ops/ (ops/matmul.h). A kernel's file has the basename of
// its op. The levels of the hierarchy are registers, warp, block and grid; what passes from one
// piece of time to the next is a carry.
#pragma once

#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/device.cuh>

#include <algorithm>
#include <utility>

namespace fprnn::cuda {

struct Grid {
  int64_t blocks;
  int threads;
  size_t shared_bytes = 0;  // dynamic
};

[[noreturn]] void launch_failed(cudaError_t status, std::string_view kernel, const Grid& grid);

// kernel<<<grid>>>(args...) on the Context's stream. DeviceError names the kernel, the grid and
// CUDA's message. Blocks number the x axis; none at all starts nothing.
template <class... Parameters, class... Args>
void start(Cuda cuda, std::string_view name, void (*kernel)(Parameters...), const Grid& grid,
           Args&&... args) {
  if (grid.blocks == 0) return;
  CudaDevice& device = gpu(cuda);
  cudaError_t status = cudaSuccess;
  constexpr size_t kWithoutAsking = 48 << 10;
  if (!device.forms.fit(static_cast<int64_t>(grid.shared_bytes))) status = cudaErrorInvalidValue;
  // Always the same number: the attribute belongs to all threads of the process.
  else if (grid.shared_bytes > kWithoutAsking)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(device.gpu_forms.block_bytes));
  if (status == cudaSuccess && grid.blocks > INT32_MAX) status = cudaErrorInvalidConfiguration;
  if (status == cudaSuccess) {
    kernel<<<static_cast<unsigned>(grid.blocks), grid.threads, grid.shared_bytes, device.stream>>>(
        std::forward<Args>(args)...);
    status = cudaGetLastError();
  }
  if (status == cudaSuccess && device.synchronise && !device.capturing)
    status = cudaStreamSynchronize(device.stream);
  if (status != cudaSuccess) [[unlikely]]
    launch_failed(status, name, grid);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where warps take a row each, Warps of them a block.
template <int Warps = 8>
__device__ __forceinline__ int64_t row_of_warp() {
  return int64_t{blockIdx.x} * Warps + threadIdx.x / kWarp;
}
template <int Warps = 8>
Grid rows_by_warps(int64_t rows) {
  return {.blocks = ceil_div(rows, Warps), .threads = Warps * kWarp};
}

// body(i) for every i in [0, count): one thread an element, in strides where there are very many.
template <class Body>
__global__ void for_each_kernel(int64_t count, Body body) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) body(i);
}
template <class Body>
void for_each(Cuda cuda, std::string_view name, int64_t count, const Body& body) {
  constexpr int kThreads = 256;
  constexpr int64_t kBlocks = 1 << 16;
  start(cuda, name, for_each_kernel<Body>,
        {.blocks = std::min(ceil_div(count, kThreads), kBlocks), .threads = kThreads}, count, body);
}

}  // namespace fprnn::cuda
