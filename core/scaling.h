// Numbers so large or small that their squares overflow or underflow, for every device as in
// ops/elementwise_functions.h: multiplied by a power of two, which rounds nothing, they are
// ordinary ones.
#pragma once

#include <fprnn/core/real.h>

#include <limits>
#include <type_traits>

namespace fprnn::FPRNN_ISA {

inline constexpr real kLeastNormal = std::numeric_limits<real>::min();
// A sum of squares between these is finite and has lost nothing to subnormal numbers.
inline constexpr real kLeastSquares = kLeastNormal / std::numeric_limits<real>::epsilon();
inline constexpr real kMostSquares = std::numeric_limits<real>::max();

// Whether a length, or eps where that is larger, may be taken from a sum of squares as it is.
FPRNN_INLINE bool sound_squares(real squares, real eps) {  // false for NaN
  return squares <= kMostSquares && (squares >= kLeastSquares || eps * eps >= kLeastSquares);
}

// Up to this size fourth powers may be added up, and from its inverse on.
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
