// The element type of every tensor: float, or double in the gradient-check build (FPRNN_DOUBLE).
//
// Context, Tensor and Var live in the inline namespace f32 or f64. Every program needs a Context,
// so linking objects built for one type against a library built for the other is a link error.
#pragma once

#include <fprnn/config.h>

#include <cstdint>

#if FPRNN_DOUBLE
#define FPRNN_REAL f64
#else
#define FPRNN_REAL f32
#endif

// Functions that the CPU and the GPU share, such as the formulas of elementwise.h.
#if defined(__CUDACC__)
#define FPRNN_HOST_DEVICE __host__ __device__
#else
#define FPRNN_HOST_DEVICE
#endif

namespace fprnn {

#if FPRNN_DOUBLE
using real = double;
#else
using real = float;
#endif

// Whether `real` is double.
inline constexpr bool kDouble = sizeof(real) == 8;

// The larger of a and b, NaN if either is NaN, b if they are equal. std::max, like a plain
// comparison, loses a NaN that is one of its operands. Always inlined, like everything that kernel
// files share (core/simd.h).
template <class T>
FPRNN_HOST_DEVICE inline __attribute__((always_inline)) T larger_or_nan(T a, T b) {
  return a > b || a != a ? a : b;
}

// The residual of y = f(y), which every solver compares with its tolerance:
//   max |f(y) - y| / (max |f(y)| + kResidualFloor)
inline constexpr double kResidualFloor = 1e-8;
// The most by which it may differ where the sums of f are taken in another order.
inline constexpr real kResidualRounding = kDouble ? real(1e-12) : real(5e-6);

}  // namespace fprnn
