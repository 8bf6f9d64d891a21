// What a GPU can do: its memory by a copy, its arithmetic by its own description.
#include "bench.h"

#include <fprnn/core/check.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn::bench {

namespace {

// A quad a thread, and nothing of either side is read again.
__global__ void copy_kernel(const float4* from, float4* to, int64_t quads) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < quads) __stcs(to + i, __ldcs(from + i));
}

}  // namespace

void copy_by_kernel(const Context& context, const Tensor& from, const Tensor& to) {
  constexpr int kThreads = 256;
  const int64_t quads = from.elements() / cuda::Quad::kCount;
  cuda::start({context}, "copy", copy_kernel,
              {.blocks = cuda::ceil_div(quads, kThreads), .threads = kThreads},
              reinterpret_cast<const float4*>(from.data()), reinterpret_cast<float4*>(to.data()),
              quads);
}

// The special function units of compute capability 9.0 finish 16 ex2 a clock on each multiprocessor
// (CUDA C++ Programming Guide, throughput of native arithmetic instructions).
double gpu_exponentials_per_second() {
  constexpr double kPerClock = 16;
  int multiprocessors = 0, kilohertz = 0;
  const bool known =
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess &&
      cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0) == cudaSuccess;
  require<DeviceError>(known, "bench", "the GPU must tell its size and clock");
  return kPerClock * multiprocessors * 1e3 * kilohertz;
}

}  // namespace fprnn::bench
