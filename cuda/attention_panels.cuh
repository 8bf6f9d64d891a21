// What the kernels of attention are made of: how products round, panels of rows in shared memory, and
// products of a warp's rows with a panel, by tensor cores.
#pragma once

#include <cuda_bf16.h>
#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/tile.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

// A word of shared memory.
__device__ __forceinline__ uint32_t shared_word(uint32_t at) {
  return *static_cast<const uint32_t*>(__cvta_shared_to_generic(at));
}

// The sums of a lane, elements (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1) of a tile for lane 4 g + t.
struct PlainSums {
  float c[4] = {};
  __device__ __forceinline__ float operator[](int i) const { return c[i]; }
  // Goes on from what is there.
  __device__ __forceinline__ void take(const float (&y)[4]) {
    unrolled<4>([&](int i) { c[i] = y[i]; });
  }
  __device__ __forceinline__ void give(float (&y)[4]) const {
    unrolled<4>([&](int i) { y[i] = c[i]; });
  }
};
// Tensor cores cut off what they add, so long sums are taken in parts and added up beside them.
struct SumsApart {
  float high[4] = {}, low[4] = {};
  __device__ __forceinline__ float operator[](int i) const { return high[i] + low[i]; }
  __device__ __forceinline__ void take(const float (&)[4]) {}
  __device__ __forceinline__ void give(float (&y)[4]) const {
    unrolled<4>([&](int i) { y[i] += high[i] + low[i]; });
  }
};

// How products round. An instruction sums over kStep numbers, which are two chunks of 16 bytes of a row. `left`
// makes a left factor (16, kStep) of its four registers, `of_sums` of tiles of sums; `turned` loads
// right factors (kStep, 16) from rows of a panel, whose order within a step is `of_sums`'s.
struct InBf16 {
  using Element = __nv_bfloat16;
  using Sums = PlainSums;
  static constexpr int kStep = 16;
  static constexpr bool kHold = true;  // rows' factors fit in registers
  struct Left {
    uint32_t x[4];
  };
  static __device__ __forceinline__ Element element(float x) { return __float2bfloat16_rn(x); }
  static __device__ __forceinline__ Left left(const uint32_t (&x)[4]) {
    return {{x[0], x[1], x[2], x[3]}};
  }
  static __device__ __forceinline__ Left of_sums(const float (*x)[4]) {
    return {{pair(x[0][0], x[0][1]), pair(x[0][2], x[0][3]), pair(x[1][0], x[1][1]),
             pair(x[1][2], x[1][3])}};
  }
  static __device__ __forceinline__ void multiply(Sums& sums, const Left& a, uint32_t b0,
                                                  uint32_t b1) {
    multiply_bf16(sums.c, a.x, b0, b1);
  }
  template <int kRowBytes>
  static __device__ __forceinline__ void turned(uint32_t rows, int pair, uint32_t (&b)[4]) {
    const int lane = lane_of();
    load_turned_tiles(rows + lane % 16 * kRowBytes + (2 * pair ^ lane / 16 ^ lane % 8) * 16, b);
  }

 private:
  static __device__ __forceinline__ uint32_t pair(float x, float y) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&both);
  }
};

// Column t of a left factor stands for number 2 t of a step, and column t + 4 for number 2 t + 1.
struct InFloats {
  using Element = float;
  static constexpr int kStep = 8;
  static constexpr bool kHold = false;
  template <int kRowBytes>
  static __device__ __forceinline__ void turned(uint32_t rows, int pair, uint32_t (&b)[4]) {
    const int g = lane_of() / 4, t = lane_of() % 4;
    unrolled<2>([&](int n) {
      unrolled<2>([&](int k) {
        const int row = 2 * t + k, chunk = (4 * pair + 2 * n) ^ g / 4 ^ row;
        b[2 * n + k] = shared_word(rows + row * kRowBytes + chunk * 16 + g % 4 * 4);
      });
    });
  }
};
struct InTf32 : InFloats {
  using Sums = PlainSums;
  using Left = InBf16::Left;
  static __device__ __forceinline__ Element element(float x) { return __uint_as_float(as_tf32(x)); }
  static __device__ __forceinline__ Left left(const uint32_t (&x)[4]) { return InBf16::left(x); }
  static __device__ __forceinline__ Left of_sums(const float (*x)[4]) {
    return {{as_tf32(x[0][0]), as_tf32(x[0][2]), as_tf32(x[0][1]), as_tf32(x[0][3])}};
  }
  static __device__ __forceinline__ void multiply(Sums& sums, const Left& a, uint32_t b0,
                                                  uint32_t b1) {
    multiply_tiles(sums.c, a.x[0], a.x[1], a.x[2], a.x[3], b0, b1);
  }
};
struct InFp32 : InFloats {
  using Sums = SumsApart;
  struct Left {
    HighLow x[4];
  };
  static __device__ __forceinline__ Element element(float x) { return x; }
  static __device__ __forceinline__ Left left(const uint32_t (&x)[4]) {
    Left a;
    unrolled<4>([&](int i) { a.x[i] = HighLow(__uint_as_float(x[i])); });
    return a;
  }
  static __device__ __forceinline__ Left of_sums(const float (*x)[4]) {
    return {{HighLow(x[0][0]), HighLow(x[0][2]), HighLow(x[0][1]), HighLow(x[0][3])}};
  }
  static __device__ __forceinline__ void multiply(Sums& sums, const Left& a, uint32_t b0,
                                                  uint32_t b1) {
    const HighLow c(__uint_as_float(b0)), d(__uint_as_float(b1));
    const HighLow(&x)[4] = a.x;
    multiply_tiles(sums.low, x[0].high, x[1].high, x[2].high, x[3].high, c.low, d.low);
    multiply_tiles(sums.low, x[0].low, x[1].low, x[2].low, x[3].low, c.high, d.high);
    multiply_tiles(sums.high, x[0].high, x[1].high, x[2].high, x[3].high, c.high, d.high);
  }
};

// Rows of D numbers in shared memory, whose chunks are placed so that the lanes of a load meet all
// banks. A panel begins at a multiple of 16 bytes and a place in it at a multiple of 8 rows.
template <class Mode, int D>
struct Panel {
  using Element = typename Mode::Element;
  static constexpr int kRowBytes = D * static_cast<int>(sizeof(Element));
  static constexpr int kChunks = kRowBytes / 16, kSteps = D / Mode::kStep;
  static_assert(kChunks % 8 == 0 && kSteps * 2 == kChunks);

  template <int kRows, int kThreads>
  static __device__ __forceinline__ void bring(uint32_t panel, const Element* from) {
    constexpr int kEach = kRows * kChunks / kThreads;
    static_assert(kEach * kThreads == kRows * kChunks);
    unrolled<kEach>([&](int i) {
      const int number = static_cast<int>(threadIdx.x) + i * kThreads, row = number / kChunks;
      const int chunk = number % kChunks ^ row % 8;
      copy_quad_async(panel + row * kRowBytes + chunk * 16,
                      from + number * (16 / static_cast<int>(sizeof(Element))));
    });
  }
  // Of 16 rows from a place on, as a left factor; of 16 rows, as two right ones.
  static __device__ __forceinline__ typename Mode::Left left(uint32_t rows, int step) {
    const int lane = lane_of();
    uint32_t x[4];
    load_tiles(rows + lane % 16 * kRowBytes + (2 * step ^ lane / 16 ^ lane % 8) * 16, x);
    return Mode::left(x);
  }
  static __device__ __forceinline__ void right(uint32_t rows, int step, uint32_t (&b)[4]) {
    const int lane = lane_of(), row = lane / 16 * 8 + lane % 8;
    load_tiles(rows + row * kRowBytes + (2 * step ^ lane / 8 % 2 ^ lane % 8) * 16, b);
  }
};

// x <- the warp's rows times the panel's, which are columns: left(m, step) gives the rows' factors.
template <class Mode, int D, int kM, int kN, class Lefts>
__device__ __forceinline__ void multiply_panel(const Lefts& left, uint32_t panel,
                                               float (&x)[kM][kN][4]) {
  using P = Panel<Mode, D>;
  static_assert(kN % 2 == 0);
  typename Mode::Sums sums[kM][kN];
#pragma unroll
  for (int step = 0; step < P::kSteps; ++step) {
    typename Mode::Left a[kM];
    unrolled<kM>([&](int m) { a[m] = left(m, step); });
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      P::right(panel + n * 8 * P::kRowBytes, step, b);
      unrolled<kM>([&](int m) {
        Mode::multiply(sums[m][n], a[m], b[0], b[1]);
        Mode::multiply(sums[m][n + 1], a[m], b[2], b[3]);
      });
    }
  }
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n) unrolled<4>([&](int i) { x[m][n][i] = sums[m][n][i]; });
}

// y <- y + x times the panel, whose rows are what x's columns stand for.
template <class Mode, int D, int kM, int kN>
__device__ __forceinline__ void add_product(const float (&x)[kM][kN][4], uint32_t panel,
                                            float (&y)[kM][D / 8][4]) {
  constexpr int kSteps = kN * 8 / Mode::kStep, kTiles = Mode::kStep / 8;
  typename Mode::Left a[kM][kSteps];
#pragma unroll
  for (int m = 0; m < kM; ++m)
    unrolled<kSteps>([&](int step) { a[m][step] = Mode::of_sums(&x[m][step * kTiles]); });
#pragma unroll
  for (int pair = 0; pair < D / 16; ++pair) {
    typename Mode::Sums sums[kM][2];
    unrolled<kM>([&](int m) {
      sums[m][0].take(y[m][2 * pair]);
      sums[m][1].take(y[m][2 * pair + 1]);
    });
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      constexpr int kRowBytes = Panel<Mode, D>::kRowBytes;
      uint32_t b[4];
      Mode::template turned<kRowBytes>(panel + step * Mode::kStep * kRowBytes, pair, b);
      unrolled<kM>([&](int m) {
        Mode::multiply(sums[m][0], a[m][step], b[0], b[1]);
        Mode::multiply(sums[m][1], a[m][step], b[2], b[3]);
      });
    }
    unrolled<kM>([&](int m) {
      sums[m][0].give(y[m][2 * pair]);
      sums[m][1].give(y[m][2 * pair + 1]);
    });
  }
}

}  // namespace fprnn::cuda
