// exp, log1p and what follows from them, for V = Vec or a Pack of them, for kernel files only.
//
// float: our own, since libm's do not vectorise. Largest error over all floats against long double,
// as tests/test_vector_math.cpp measures and bounds it: exp, exp2 1.1 ulp, log1p_unit 1.1,
// sigmoid 2.6 (but 0 where e^-x overflows), softplus 2, tanh 3. double: libm, lane by lane; that
// build is for checking gradients.
#pragma once

#include <fprnn/core/pack.h>

namespace fprnn::FPRNN_ISA {

#if FPRNN_DOUBLE

// A function of libm, lane by lane, for vectors and packs.
#define FPRNN_LANES(name, function)                                         \
  FPRNN_INLINE Vec name(Vec x) {                                            \
    for (int64_t i = 0; i < kLanes; ++i) x[i] = __builtin_##function(x[i]); \
    return x;                                                               \
  }                                                                         \
  template <int Count>                                                      \
  FPRNN_INLINE Pack<Count> name(const Pack<Count>& x) {                     \
    return each([](Vec y) { return name(y); }, x);                          \
  }
FPRNN_LANES(exp, exp)
FPRNN_LANES(exp2_normal, exp2)
FPRNN_LANES(log1p_unit, log1p)
FPRNN_LANES(tanh, tanh)
#undef FPRNN_LANES

#else

// 1.5 * 2^23: adding it to |x| < 2^22 leaves no bits for a fraction and x, rounded to the nearest
// integer, in the lowest bits.
inline constexpr float kRound = 12582912.0f;

template <class V>
FPRNN_INLINE V nearest(const V& x) {
  return (x + kRound) - kRound;
}

// 2^n for integers n in [-126, 127], given as floats.
FPRNN_INLINE Vec power_of_two(Vec n) {
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return __builtin_bit_cast(Vec, bits);
}
template <int Count>
FPRNN_INLINE Pack<Count> power_of_two(const Pack<Count>& n) {
  return each([](Vec x) { return power_of_two(x); }, n);
}

// x times 2^n, where n + kRound is given and the result is a normal number: n goes into the
// exponent.
FPRNN_INLINE Vec scaled_by_power(Vec x, Vec rounded) {
  const IntVec exponent = __builtin_bit_cast(IntVec, rounded) << 23;
  return __builtin_bit_cast(Vec, __builtin_bit_cast(IntVec, x) + exponent);
}
template <int Count>
FPRNN_INLINE Pack<Count> scaled_by_power(const Pack<Count>& x, const Pack<Count>& rounded) {
  return each([](Vec y, Vec n) { return scaled_by_power(y, n); }, x, rounded);
}

// 2^x where the result is a normal number; below 2^-126 and above 2^127 it stays there. For decay
// factors, whose underflow is harmless.
template <class V>
FPRNN_INLINE V exp2_normal(const V& x) {
  const V inside = at_most(at_least(x, -126.0f), 127.0f);
  const V rounded = inside + kRound;
  const V f = inside - (rounded - kRound);
  // 2^f on [-1/2, 1/2]: minimax, relative error 2e-9 before rounding.
  V p = f * 1.53533619e-4f + 1.33988744e-3f;
  p = p * f + 9.61843736e-3f;
  p = p * f + 5.55033247e-2f;
  p = p * f + 2.40226479e-1f;
  p = p * f + 6.93147203e-1f;
  p = p * f + 1.0f;
  return scaled_by_power(p, rounded);
}

// e^x over all floats: subnormal results, infinity and NaN as IEEE 754 would have them.
template <class V>
FPRNN_INLINE V exp(const V& x) {
  const V inside = at_most(at_least(x, -104.0f), 89.0f);
  const V n = nearest(inside * 1.44269504f);
  // Cody-Waite: ln 2 in two parts, so that the remainder keeps all its bits.
  const V r = (inside - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // Cephes expf: e^r = 1 + r + r^2 p(r)
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors: n reaches from -150 (subnormal results) to 128 (overflow).
  const V half = nearest(n * 0.5f);
  return p * power_of_two(half) * power_of_two(n - half);
}

// log(1 + x) for x in [0, 1]; Cephes logf's polynomial on [-0.30, 0.42].
template <class V>
FPRNN_INLINE V log1p_unit(const V& x) {
  const auto upper = x > 0.41421356f;  // there log(1 + x) = ln 2 + log(1 + (x - 1) / 2)
  const V r = select(upper, (x - 1.0f) * 0.5f, x);
  V p = r * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  const V square = r * r;
  const V log = p * r * square - 0.5f * square + r;
  return select(upper, log + 0.693147181f, log);
}

template <class V>
FPRNN_INLINE V tanh(const V& x) {
  const auto negative = x < 0.0f;
  const V magnitude = select(negative, -x, x);
  const V e = exp(-2.0f * magnitude);
  const V large = (1.0f - e) / (1.0f + e);
  const V square = x * x;  // Cephes tanhf: near 0 the quotient would cancel
  V p = square * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const V small = p * square * x + x;
  return select(magnitude < 0.625f, small, select(negative, -large, large));
}

#endif

template <class V>
FPRNN_INLINE V sigmoid(const V& x) {
  return real(1) / (real(1) + exp(-x));
}

// softplus(x) = log(1 + e^x) without overflow, and its slope, sigmoid(x), for the price of a
// division.
template <class V>
struct ValueAndSlope {
  V value, slope;
};
template <class V>
FPRNN_INLINE ValueAndSlope<V> softplus_with_slope(const V& x) {
  const auto positive = x > real(0);
  const V e = exp(select(positive, -x, x));  // e^-|x|
  const V numerator = select(positive, filled_like(e, 1), e);
  return {at_least(x, 0) + log1p_unit(e), numerator / (real(1) + e)};
}
template <class V>
FPRNN_INLINE V softplus(const V& x) {
  return softplus_with_slope(x).value;
}

}  // namespace fprnn::FPRNN_ISA
