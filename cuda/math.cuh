// The functions of core/vector_math.h on the GPU, where Vec is one real. CUDA's own expf is within
// 1 ulp (2 with its argument's rounding), log1pf and tanhf within 2.
#pragma once

#include <cuda_runtime.h>
#include <fprnn/core/real.h>

#include <cstdint>

#define FPRNN_ISA cuda
#define FPRNN_INLINE __device__ __forceinline__
#define FPRNN_RARE FPRNN_INLINE
#define FPRNN_DISPATCH inline
#include <fprnn/core/scaling.h>

namespace fprnn::cuda {

using Vec = real;

FPRNN_INLINE float exp(float x) { return ::expf(x); }
FPRNN_INLINE double exp(double x) { return ::exp(x); }
FPRNN_INLINE float tanh(float x) { return ::tanhf(x); }
FPRNN_INLINE double tanh(double x) { return ::tanh(x); }
FPRNN_INLINE float log1p(float x) { return ::log1pf(x); }
FPRNN_INLINE double log1p(double x) { return ::log1p(x); }
FPRNN_INLINE float normal_cdf(float x) { return ::normcdff(x); }
FPRNN_INLINE double normal_cdf(double x) { return ::normcdf(x); }
FPRNN_INLINE float sine_of_turns(float x) { return ::sinpif(2 * x); }
FPRNN_INLINE double sine_of_turns(double x) { return ::sinpi(2 * x); }
FPRNN_INLINE float square_root(float x) { return ::sqrtf(x); }
FPRNN_INLINE double square_root(double x) { return ::sqrt(x); }
// float: the instruction, 2 ulp, denormals are 0.
FPRNN_INLINE float inverse_root(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FPRNN_INLINE double inverse_root(double x) { return ::rsqrt(x); }
FPRNN_INLINE float magnitude(float x) { return ::fabsf(x); }
FPRNN_INLINE double magnitude(double x) { return ::fabs(x); }

// Within a bound; NaN stays.
FPRNN_INLINE real at_least(real x, real low) { return x < low ? low : x; }
FPRNN_INLINE real at_most(real x, real high) { return x > high ? high : x; }
FPRNN_INLINE real select(bool condition, real yes, real no) { return condition ? yes : no; }
FPRNN_INLINE real larger(real a, real b) { return a > b ? a : b; }  // b where one is NaN

// 2^x; float: the instruction, 2 ulp, denormals are 0.
FPRNN_INLINE float exp2_decay(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FPRNN_INLINE double exp2_decay(double x) { return ::exp2(x); }
inline constexpr real kLog2e = static_cast<real>(1.4426950408889634);

// 1 / (1 + e^-x); for x far below 0 the denominator overflows to infinity, which gives 0.
FPRNN_INLINE real sigmoid(real x) { return real(1) / (real(1) + exp(-x)); }
// log(1 + e^x) without overflow; NaN stays.
FPRNN_INLINE real softplus(real x) {
  return (x > 0 ? x : x < 0 ? real(0) : x) + log1p(exp(-magnitude(x)));
}
// log(1 + x) for x in [0, 1]; float: x + x^2 p(x), minimax, relative error 3e-8 before rounding.
FPRNN_INLINE real log1p_unit(real x) {
  if constexpr (kDouble) return log1p(x);
  real p = x * 5.3648247e-3f - 3.00657942e-2f;
  p = p * x + 7.92045394e-2f;
  p = p * x - 1.37538027e-1f;
  p = p * x + 1.91536551e-1f;
  p = p * x - 2.48571637e-1f;
  p = p * x + 3.33213226e-1f;
  p = p * x - 4.9999648e-1f;
  return p * (x * x) + x;
}
// 1 / x for x in [1, 2]; float: 2 ulp.
FPRNN_INLINE real reciprocal(real x) {
  if constexpr (kDouble) return 1 / x;
  return __fdividef(1.0f, static_cast<float>(x));
}
// Softplus with its slope, sigmoid(x).
struct ValueAndSlope {
  real value, slope;
};
FPRNN_INLINE ValueAndSlope softplus_with_slope(real x) {
  const real e = exp(-magnitude(x)), slope = reciprocal(1 + e);
  return {(x > 0 ? x : real(0)) + log1p_unit(e), x > 0 ? slope : e * slope};
}
// offset + scale x with two roundings, as the CPU without a fused multiply-add has it.
FPRNN_INLINE float unfused(float offset, float scale, float x) {
  return __fadd_rn(offset, __fmul_rn(scale, x));
}
FPRNN_INLINE double unfused(double offset, double scale, double x) {
  return __dadd_rn(offset, __dmul_rn(scale, x));
}
FPRNN_INLINE real filled_like(real, real value) { return value; }

// Where the same row is divided into vectors: 16 bytes of reals.
struct alignas(16) Quad {
  static constexpr int kCount = 16 / sizeof(real);
  real v[kCount];
};
// What no thread of the multiprocessor reads again before much else has been read.
FPRNN_INLINE Quad load_from_l2(const real* from) {
  const float4 x = __ldcg(reinterpret_cast<const float4*>(from));
  Quad y;
  static_assert(sizeof(x) == sizeof(y));
  __builtin_memcpy(&y, &x, sizeof(y));
  return y;
}
template <class... Pointers>
bool quads_aligned(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % sizeof(Quad) == 0) && ...);
}

}  // namespace fprnn::cuda
