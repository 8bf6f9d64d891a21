// Products of floats by tensor cores, tiles of 16 by 8. They take numbers of 11 bits: each is the sum of two such,
// of which three products are added up, and the error is that of floats.
#pragma once

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

}  // namespace fprnn::cuda
