// Copies of boxes of a (B, T, D) array between global and shared memory by the copy engine (TMA):
// one thread asks for thousands of bytes by one instruction, and no other computes addresses. A box
// is a number of steps of a number of channels of one sequence.
//
// The parts of a box outside the array are read as zeros. Parts after the end of the array are not
// written, but a box that begins before the array must not be written: the engine stops the kernel
// with an illegal instruction (H200, driver of CUDA 13).
#pragma once

#include <cuda.h>
#include <fprnn/cuda/math.cuh>

namespace fprnn::cuda {

// Code for GPUs without the engine has no kernel of boxes; forms.h says which those are.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHasBoxes = false;
#else
inline constexpr bool kHasBoxes = true;
#endif

struct BoxSizes {
  int64_t B, T, D;
  int channels = 1, steps = 1;  // of a box
};

// The engine's rules: rows begin at multiples of 16 bytes, a box is not larger than the array, a place has 32
// bits (two are left, for boxes that reach beyond), a distance 40. Arrays too must begin at such a
// multiple (quads_aligned).
bool boxes_fit(const BoxSizes& sizes);

// The array as the engine knows it. A kernel takes it as a const __grid_constant__ parameter.
CUtensorMap box_map(const real* array, const BoxSizes& sizes);

// Where a box begins; the steps before 0 and the channels after D are none of the array's.
struct BoxPlace {
  int channel, step, sequence;
};

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

// Counts the bytes of boxes that arrive; its phases are numbered from 0.
class BoxBarrier {
 public:
  // By one thread, before the others see it.
  __device__ void open() {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&word_)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  // So many bytes will come in this phase; by one thread, before it asks for them.
  __device__ void expect(int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&word_)),
        "r"(bytes)
        : "memory");
  }
  // Until the phase, of which the last bit is told, has all its bytes.
  __device__ void wait(unsigned phase) {
    unsigned done;
    do {
      asm volatile(
          "{\n"
          ".reg .pred p;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n"
          "}\n"
          : "=r"(done)
          : "r"(shared_address(&word_)), "r"(phase)
          : "memory");
    } while (done == 0);
  }
  __device__ void read(real* to, const CUtensorMap& from, const BoxPlace& at) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
        "l"(&from), "r"(shared_address(&word_)), "r"(at.channel), "r"(at.step), "r"(at.sequence)
        : "memory");
  }

 private:
  uint64_t word_;
};

// What this thread wrote to shared memory is there for the engine.
__device__ __forceinline__ void show_boxes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void write_box(const CUtensorMap& to, const real* from,
                                          const BoxPlace& at) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&to),
      "r"(shared_address(from)), "r"(at.channel), "r"(at.step), "r"(at.sequence)
      : "memory");
}
// Boxes written since the last commit are a group. wait_read: all but this thread's last Groups are no
// longer needed in shared memory; wait_written: all are in memory.
__device__ __forceinline__ void commit_boxes() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int Groups>
__device__ __forceinline__ void wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Groups) : "memory");
}
__device__ __forceinline__ void wait_written() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

}  // namespace fprnn::cuda
