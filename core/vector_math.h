// exp, log1p and what follows from them, on the vectors of simd.h, for kernel files only.
//
// float: our own, since libm's do not vectorise. Largest error over all floats against long double, as
// tests/test_vector_math.cpp measures and bounds it: exp, exp2 1.1 ulp, log1p_unit 1.1, sigmoid 2.6,
// softplus 2, tanh 3. double: libm, lane by lane; that build is for checking gradients.
#pragma once

#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

#if FPRNN_DOUBLE

#define FPRNN_LANES(function)                                        \
  Vec y;                                                             \
  for (int64_t i = 0; i < kLanes; ++i) y[i] = __builtin_##function(x[i]); \
  return y;
FPRNN_INLINE Vec exp(Vec x) { FPRNN_LANES(exp) }
FPRNN_INLINE Vec exp2_normal(Vec x) { FPRNN_LANES(exp2) }
FPRNN_INLINE Vec log1p_unit(Vec x) { FPRNN_LANES(log1p) }
FPRNN_INLINE Vec tanh(Vec x) { FPRNN_LANES(tanh) }
#undef FPRNN_LANES

#else

// 2^n for integers n in [-126, 127], given as floats.
FPRNN_INLINE Vec power_of_two(Vec n) {
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return __builtin_bit_cast(Vec, bits);
}

// 1.5 * 2^23: adding it to |x| < 2^22 leaves no bits for a fraction and x, rounded to the nearest
// integer, in the lowest bits.
inline constexpr float kRound = 12582912.0f;

FPRNN_INLINE Vec nearest(Vec x) { return (x + kRound) - kRound; }

// 2^x where the result is a normal number; below 2^-126 and above 2^127 it stays there. For decay
// factors, whose underflow is harmless.
FPRNN_INLINE Vec exp2_normal(Vec x) {
  x = at_most(at_least(x, -126.0f), 127.0f);
  const Vec rounded = x + kRound;
  const Vec f = x - (rounded - kRound);
  Vec p = splat(1.53533619e-4f);  // 2^f on [-1/2, 1/2]: minimax, relative error 2e-9 before rounding
  p = p * f + 1.33988744e-3f;
  p = p * f + 9.61843736e-3f;
  p = p * f + 5.55033247e-2f;
  p = p * f + 2.40226479e-1f;
  p = p * f + 6.93147203e-1f;
  p = p * f + 1.0f;
  // The integer part goes straight into the exponent of p.
  const IntVec bits =
      __builtin_bit_cast(IntVec, p) + (__builtin_bit_cast(IntVec, rounded) << 23);
  return __builtin_bit_cast(Vec, bits);
}

// e^x over all floats: subnormal results, infinity and NaN as IEEE 754 would have them.
FPRNN_INLINE Vec exp(Vec x) {
  const Vec inside = at_most(at_least(x, -104.0f), 89.0f);
  const Vec n = nearest(inside * 1.44269504f);
  // Cody-Waite: ln 2 in two parts, so that the remainder keeps all its bits.
  const Vec r = (inside - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);  // Cephes expf: e^r = 1 + r + r^2 p(r)
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors: n reaches from -150 (subnormal results) to 128 (overflow).
  const Vec half = nearest(n * 0.5f);
  return p * power_of_two(half) * power_of_two(n - half);
}

// log(1 + x) for x in [0, 1]; Cephes logf's polynomial on [-0.30, 0.42].
FPRNN_INLINE Vec log1p_unit(Vec x) {
  const IntVec upper = x > 0.41421356f;  // there log(1 + x) = ln 2 + log(1 + (x - 1) / 2)
  const Vec r = select(upper, (x - 1.0f) * 0.5f, x);
  Vec p = splat(7.0376836292e-2f);
  p = p * r - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  const Vec square = r * r;
  const Vec log = p * r * square - 0.5f * square;
  return select(upper, log + r + 0.693147181f, log + r);
}

FPRNN_INLINE Vec tanh(Vec x) {
  const Vec magnitude = select(x < 0, -x, x);
  const Vec e = exp(-2.0f * magnitude);
  const Vec large = (1.0f - e) / (1.0f + e);
  const Vec square = x * x;  // Cephes tanhf: near 0 the quotient would cancel
  Vec p = splat(-5.70498872745e-3f);
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const Vec small = p * square * x + x;
  return select(magnitude < 0.625f, small, select(x < 0, -large, large));
}

#endif

FPRNN_INLINE Vec square_root(Vec x) {
  Vec y;
  for (int64_t i = 0; i < kLanes; ++i) y[i] = kDouble ? __builtin_sqrt(x[i]) : __builtin_sqrtf(x[i]);
  return y;
}
FPRNN_INLINE real square_root(real x) { return static_cast<real>(__builtin_sqrt(x)); }

FPRNN_INLINE Vec sigmoid(Vec x) { return 1 / (1 + exp(-x)); }

// log(1 + e^x) without overflow.
FPRNN_INLINE Vec softplus(Vec x) {
  const IntVec positive = x > 0;
  return select(positive, x, Vec{}) + log1p_unit(exp(select(positive, -x, x)));
}

}  // namespace fprnn::FPRNN_ISA
