// Which forms of the kernels a GPU runs: a function of two numbers, and of nothing else, so that what
// another GPU would do can be told, and tested, without it.
//
//   compute capability   multiprocessors' shared memory   of a block at most
//   8.0                  164 KiB                          163 KiB
//   8.6, 8.9, 12.0       100 KiB                          99 KiB
//   9.0, 10.0            228 KiB                          227 KiB
//
// Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
#pragma once

#include <cstdint>

namespace fprnn::cuda {

inline constexpr int kLeastCapability = 80;  // 10 times the major number and the minor one

// Static arrays of the kernels that ask for much dynamic shared memory are no larger.
inline constexpr int64_t kStaticBytes = 2 << 10;
// What every one of those GPUs gives a block: kernels of fixed size keep to it.
inline constexpr int64_t kLeastBlockBytes = (99 << 10) - kStaticBytes;

struct Forms {
  bool boxes;           // the copy engine moves boxes of arrays (box.cuh); else threads copy
  int64_t block_bytes;  // of dynamic shared memory that a block may ask for

  // A kernel that needs more has a form that needs less, or is not taken.
  constexpr bool fit(int64_t bytes) const { return bytes <= block_bytes; }
  constexpr bool operator==(const Forms&) const = default;
};

// capability: of the code that runs, which may be older than the GPU. shared_bytes: what a block may
// have at most.
constexpr Forms forms_of(int capability, int64_t shared_bytes) {
  return {.boxes = capability >= 90, .block_bytes = shared_bytes - kStaticBytes};
}

}  // namespace fprnn::cuda
