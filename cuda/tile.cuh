// Products of floats by tensor cores, in tiles of 16 by 8. Tensor cores take numbers of 11 bits, so
// a float is split into the sum of two of them and three products are added up; the error is that
// of floats. HighLow covers the whole range of floats, as tf32. HalfPair takes half the
// instructions and registers, for numbers of known size.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace fprnn::cuda {

// x = high + low, as tensor cores take them: they read the upper 19 bits, so high is rounded to
// those, half away from zero, and low loses its last bit. (cvt.rna.tf32 takes five instructions.)
struct HighLow {
  uint32_t high, low;
  HighLow() = default;
  __device__ __forceinline__ explicit HighLow(float x) {
    high = (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
    low = __float_as_uint(x - __uint_as_float(high));
  }
};
// x for tensor cores, which cut off 13 bits: the factor adds between a third and two thirds of the last
// bit they read. So errors have no sign in the mean, numbers of 11 bits stay, NaN stays; and it is
// one instruction (cvt.rna.tf32 takes five).
__device__ __forceinline__ uint32_t as_tf32(float x) {
  return __float_as_uint(x * (1 + 0x1p-10f / 3));
}
// c += a b for a (16, 8), b (8, 8).
__device__ __forceinline__ void multiply_tiles(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                               uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
struct TileSums {
  float c[3][4] = {};  // apart, so that none waits for another
  __device__ __forceinline__ void add(const HighLow (&a)[4], const HighLow (&b)[2]) {
    multiply_tiles(c[0], a[0].high, a[1].high, a[2].high, a[3].high, b[0].high, b[1].high);
    multiply_tiles(c[1], a[0].high, a[1].high, a[2].high, a[3].high, b[0].low, b[1].low);
    multiply_tiles(c[2], a[0].low, a[1].low, a[2].low, a[3].low, b[0].high, b[1].high);
  }
  __device__ __forceinline__ float operator[](int i) const { return c[0][i] + (c[1][i] + c[2][i]); }
};

// Two neighbours, each high + low, as halves: 22 bits of numbers that are near 1, at most 2^15.
struct HalfPair {
  uint32_t high, low;
  HalfPair() = default;
  __device__ __forceinline__ HalfPair(float x, float y) {
    const __half2 both = __floats2half2_rn(x, y);
    const float2 kept = __half22float2(both);
    high = bits(both);
    low = bits(__floats2half2_rn(x - kept.x, y - kept.y));
  }

 private:
  static __device__ __forceinline__ uint32_t bits(const __half2& x) {
    return *reinterpret_cast<const uint32_t*>(&x);
  }
};
// c += a b for a (16, 16), b (16, 8).
__device__ __forceinline__ void multiply_halves(float (&c)[4], uint32_t a0, uint32_t a1,
                                                uint32_t a2, uint32_t a3, uint32_t b0,
                                                uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// The same of bf16, two numbers in a register.
__device__ __forceinline__ void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
struct HalfTileSums {
  float c[2][4] = {};  // what is large, and what is left of that
  __device__ __forceinline__ void add(const uint32_t (&high)[4], const uint32_t (&low)[4],
                                      uint32_t high0, uint32_t high1, uint32_t low0,
                                      uint32_t low1) {
    multiply_halves(c[0], high[0], high[1], high[2], high[3], high0, high1);
    multiply_halves(c[1], low[0], low[1], low[2], low[3], high0, high1);
    multiply_halves(c[1], high[0], high[1], high[2], high[3], low0, low1);
  }
  __device__ __forceinline__ float operator[](int i) const { return c[0][i] + c[1][i]; }
};
// Four matrices of 8 by 8 halves from shared memory, as products take them: lane i has the place of
// row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_tiles(uint32_t place, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(place)
               : "memory");
}
// The same, transposed.
__device__ __forceinline__ void load_turned_tiles(uint32_t place, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(place)
               : "memory");
}

// The power of two, from 2^-100 to 2^100, that brings numbers of this size between 1 and 2.
__device__ __forceinline__ float scale_to_one(float largest) {
  const uint32_t exponent = __float_as_uint(largest) & 0x7f800000u;
  return __uint_as_float((254u << 23) - ::min(::max(exponent, 27u << 23), 227u << 23));
}
__device__ __forceinline__ float inverse_of_power(float power) {
  return __uint_as_float((254u << 23) - __float_as_uint(power));
}

}  // namespace fprnn::cuda
