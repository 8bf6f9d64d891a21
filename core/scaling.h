// Sums of squares that would overflow or underflow: the numbers are first multiplied by a power of
// two, which rounds nothing. Written once for every device, as ops/elementwise_functions.h.
#pragma once

#include <fprnn/core/real.h>

#include <limits>
#include <type_traits>

namespace fprnn::FPRNN_ISA {

inline constexpr real kLeastNormal = std::numeric_limits<real>::min();
// A sum of squares between these is finite and has lost nothing to subnormal numbers.
inline constexpr real kLeastSquares = kLeastNormal / std::numeric_limits<real>::epsilon();
inline constexpr real kMostSquares = std::numeric_limits<real>::max();

// Whether the plain sum of squares gives max(length, eps) to full precision.
FPRNN_INLINE bool sound_squares(real squares, real eps) {  // false for NaN
  return squares <= kMostSquares && (squares >= kLeastSquares || eps * eps >= kLeastSquares);
}

// Fourth powers of numbers between the inverse of this and this can be added up.
inline constexpr real kMostOfFourth = kDouble ? 0x1p128 : 0x1p16;

// 2^-e for size in [2^e, 2^(e + 1)), as far as powers of two are normal numbers.
FPRNN_INLINE real inverse_power_of_two(real size) {
  using Bits = std::conditional_t<kDouble, int64_t, int32_t>;
  constexpr int kMantissa = std::numeric_limits<real>::digits - 1;
  constexpr Bits kLargest = 2 * std::numeric_limits<real>::max_exponent - 2;  // exponent, biased
  const Bits exponent = kLargest - (__builtin_bit_cast(Bits, size) >> kMantissa);
  return __builtin_bit_cast(real, (exponent < 1 ? Bits{1} : exponent) << kMantissa);
}

}  // namespace fprnn::FPRNN_ISA
