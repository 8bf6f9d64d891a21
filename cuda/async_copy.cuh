// Asynchronous copies to shared memory: a thread starts them and waits for them later.
#pragma once

#include <cstdint>

namespace fprnn::cuda {

// Bytes (4, 8 or 16; both addresses are multiples of it) to shared memory while the thread goes on;
// zeros where nothing is present, and then `from` is not read.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool present) {
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = present ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from),
                 "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(from),
                 "n"(Bytes), "r"(bytes)
                 : "memory");
}
// 16 bytes that are there, to a place in shared memory.
__device__ __forceinline__ void copy_quad_async(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ void commit_async() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until all but the last Groups committed by this thread have arrived.
template <int Groups>
__device__ __forceinline__ void wait_async() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
}

}  // namespace fprnn::cuda
