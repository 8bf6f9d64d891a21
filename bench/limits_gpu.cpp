// What a GPU can do, of its own description.
#include "bench.h"

#include <cuda_runtime_api.h>
#include <fprnn/core/check.h>

namespace fprnn::bench {

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
