// exp, log1p and what follows from them, for V = Vec or a Pack of them, for kernel files only.
//
// float: our own, since libm's do not vectorise. Largest error over all floats against long double,
// as tests/test_vector_math.cpp measures and bounds it: exp, exp2_decay 1.1 ulp, log1p_unit 1.5,
// sigmoid 2.6 (but 0 where e^-x overflows), softplus 2.5, tanh 3. double: libm, lane by lane; that
// build is for checking gradients.
#pragma once

#include <fprnn/core/pack.h>
#include <fprnn/core/scaling.h>

namespace fprnn::FPRNN_ISA {

#if FPRNN_DOUBLE

// A function of libm, lane by lane, for vectors and packs.
#define FPRNN_LANES(name, function)                                         \
  FPRNN_INLINE Vec name(Vec x) {                                            \
    for (int64_t i = 0; i < kLanes; ++i) x[i] = __builtin_##function(x[i]); \
    return x;                                                               \
  }                                                                         \
  FPRNN_PACK_FUNCTION(name)
FPRNN_INLINE Vec reciprocal(Vec x) { return 1 / x; }
FPRNN_LANES(exp, exp)
FPRNN_LANES(exp2_decay, exp2)
FPRNN_LANES(log1p_unit, log1p)
FPRNN_LANES(tanh, tanh)
FPRNN_LANES(complementary_error, erfc)
FPRNN_LANES(sine, sin)
#undef FPRNN_LANES
template <class V>
FPRNN_INLINE V normal_cdf(const V& x) {
  return 0.5 * complementary_error(-0.70710678118654752440 * x);
}

template <class V>
FPRNN_INLINE V sine_of_turns(const V& x) {
  return sine(6.28318530717958647692 * x);
}

#else

// 1.5 * 2^23: adding it to |x| < 2^22 leaves no bits for a fraction and x, rounded to the nearest
// integer, in the lowest bits.
inline constexpr float kRound = 12582912.0f;

template <class V>
FPRNN_INLINE V nearest(const V& x) {
  return (x + kRound) - kRound;
}

#if defined(__AVX512F__)

// x 2^n, rounded once, for integers n.
FPRNN_INLINE Vec scaled(Vec x, Vec n) { return Vec(_mm512_scalef_ps(__m512(x), __m512(n))); }
FPRNN_PACK_FUNCTION(scaled)

// x - floor(x).
FPRNN_INLINE Vec fraction(Vec x) { return Vec(_mm512_reduce_ps(__m512(x), _MM_FROUND_TO_NEG_INF)); }
FPRNN_PACK_FUNCTION(fraction)

// 2^x; the instruction that scales takes the floor of x itself.
template <class V>
FPRNN_INLINE V exp2_decay(const V& x) {
  const V f = fraction(x);
  // 2^f on [0, 1]: minimax, relative error 2e-9 before rounding.
  V p = f * 2.1612917e-4f + 1.24678459e-3f;
  p = p * f + 9.67545162e-3f;
  p = p * f + 5.54852806e-2f;
  p = p * f + 2.40229306e-1f;
  p = p * f + 6.93147044e-1f;
  p = p * f + 1.0f;
  return scaled(p, x);
}

// 1 / x for x in [1, 2], to 1 ulp: a table's 14 bits and one step of Newton's method.
FPRNN_INLINE Vec reciprocal(Vec x) {
  const Vec first = Vec(_mm512_rcp14_ps(__m512(x)));
  return first + first * (1.0f - x * first);
}

#else

// 2^n for integers n in [-126, 127], given as floats.
FPRNN_INLINE Vec power_of_two(Vec n) {
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return __builtin_bit_cast(Vec, bits);
}

// x 2^n for integers n in [-150, 128]: in two factors, for subnormal results and overflow.
FPRNN_INLINE Vec scaled(Vec x, Vec n) {
  const Vec half = nearest(n * 0.5f);
  return x * power_of_two(half) * power_of_two(n - half);
}
FPRNN_PACK_FUNCTION(scaled)

// x 2^n, a normal number, where n + kRound is given: its lowest bits go into the exponent.
FPRNN_INLINE Vec scaled_by_lowest_bits(Vec x, Vec rounded) {
  const IntVec exponent = __builtin_bit_cast(IntVec, rounded) << 23;
  return __builtin_bit_cast(Vec, __builtin_bit_cast(IntVec, x) + exponent);
}
FPRNN_PACK_FUNCTION(scaled_by_lowest_bits)

// 2^x; below 2^-126 and above 2^127 it stays there: for decay factors, whose underflow is harmless.
template <class V>
FPRNN_INLINE V exp2_decay(const V& x) {
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
  return scaled_by_lowest_bits(p, rounded);
}

FPRNN_INLINE Vec reciprocal(Vec x) { return 1.0f / x; }

#endif

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
  return scaled(p, n);
}

// log(1 + x) for x in [0, 1]: x + x^2 p(x), minimax, relative error 3e-8 before rounding.
template <class V>
FPRNN_INLINE V log1p_unit(const V& x) {
  V p = x * 5.3648247e-3f - 3.00657942e-2f;
  p = p * x + 7.92045394e-2f;
  p = p * x - 1.37538027e-1f;
  p = p * x + 1.91536551e-1f;
  p = p * x - 2.48571637e-1f;
  p = p * x + 3.33213226e-1f;
  p = p * x - 4.9999648e-1f;
  return p * (x * x) + x;
}

template <class V>
FPRNN_INLINE V tanh(const V& x) {
  const auto negative = sign_bit(x);
  const V magnitude = select(negative, -x, x);
  const V e = exp(-2.0f * magnitude);
  const V large = (1.0f - e) / (1.0f + e);
  const V square = magnitude * magnitude;  // Cephes tanhf: near 0 the quotient would cancel
  V p = square * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const V small = p * square * magnitude + magnitude;
  const V size = select(magnitude < 0.625f, small, large);
  return select(negative, -size, size);
}

// The distribution function of the normal distribution. Far from the mean
// Phi(-|x|) = e^(-x^2 / 2) t p(t) with t = 1 / (1 + 0.35 |x|): minimax, relative error 3.2e-8 before
// rounding.
template <class V>
FPRNN_INLINE V normal_cdf(const V& x) {
  const V size = magnitude(x);
  const V t = 1.0f / (1.0f + 0.35f * size);
  V p = t * -2.91460585e-2f + 1.43972307e-1f;
  p = p * t - 2.55715460e-1f;
  p = p * t + 1.59175485e-1f;
  p = p * t - 2.31106989e-2f;
  p = p * t + 1.05508350e-1f;
  p = p * t + 1.19832784e-1f;
  p = p * t + 1.39861882e-1f;
  p = p * t + 1.39621407e-1f;
  const V tail = exp(-0.5f * size * size) * t * p;
  return select(x < 0.0f, tail, 1.0f - tail);
}

// sin(2 pi x), of the distance to the nearest half turn: minimax, relative error 5.4e-9 before
// rounding.
template <class V>
FPRNN_INLINE V sine_of_turns(const V& x) {
  const V part = x - nearest(x);
  const V size = magnitude(part);
  const V r = select(size > 0.25f, 0.5f - size, size);
  const V square = r * r;
  V p = square * 39.7110062f - 76.5750046f;
  p = p * square + 81.6022339f;
  p = p * square - 41.3416786f;
  p = (p * square + 6.28318548f) * r;
  return select(sign_bit(part), -p, p);
}

#endif

FPRNN_PACK_FUNCTION(reciprocal)

template <class V>
FPRNN_INLINE V sigmoid(const V& x) {
  return real(1) / (real(1) + exp(-x));
}

// softplus(x) = log(1 + e^x) without overflow, and its slope, sigmoid(x).
template <class V>
struct ValueAndSlope {
  V value, slope;
};
template <class V>
FPRNN_INLINE ValueAndSlope<V> softplus_with_slope(const V& x) {
  const auto positive = x > real(0);
  const V e = exp(select(positive, -x, x));  // e^-|x|
  const V slope_of_magnitude = reciprocal(real(1) + e);
  return {at_least(x, 0) + log1p_unit(e),
          select(positive, slope_of_magnitude, e * slope_of_magnitude)};
}
template <class V>
FPRNN_INLINE V softplus(const V& x) {
  return softplus_with_slope(x).value;
}

}  // namespace fprnn::FPRNN_ISA
