// Products of a matrix and a few vectors by tensor cores, for tf32 and bf16. A row of the matrix is
// stored in 16-bit floats, multiplied by a power of two that brings its largest number between 1
// and 2. Numbers down to 2^-14 of the largest keep 11 bits, as in tf32; smaller ones have an error
// of 2^-25 of the largest. A vector is the sum of two such rows, the second for the rounding error
// of the first, so it keeps 22 bits.
// Cost: half of the matrix's bytes, and a thirtieth of the instructions of multiply-adds.
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/tile.cuh>

namespace fprnn::cuda {

// Eight numbers, or a lane's part of two tiles.
using Halves8 = uint4;
inline constexpr int kHalves = 8;

struct HalfRows {
  const Halves8* rows;  // (P, D / 8); null: there is no such matrix
  const float* scale;   // (P): row i is scale[i] times what is kept
};

// rows (count, D) and scale (count) <- the rows of x (count, D) so.
void make_half_rows(Cuda cuda, const real* x, int64_t count, int64_t D, __half* rows, float* scale);

// Vectors of D numbers, a multiple of 64, so kept, be they a matrix's rows: none, `count` that somebody will write, or
// those of x (count, D). MemoryError: no memory.
struct KeptHalfRows {
  Tensor rows, scale;
  HalfRows half{};

  KeptHalfRows() = default;
  KeptHalfRows(Cuda cuda, int64_t count, int64_t D);
  KeptHalfRows(Cuda cuda, const real* x, int64_t count, int64_t D);
  __half* numbers() const { return reinterpret_cast<__half*>(rows.data()); }
  float* scales() const { return reinterpret_cast<float*>(scale.data()); }
};
// Whether that is how precisely they are asked for, and D allows it.
inline bool suits_halves(Cuda cuda, int64_t D) {
  return !kDouble && D % 64 == 0 && gpu(cuda).matmul_precision != MatmulPrecision::fp32;
}

// Where eight numbers of a vector are in shared memory, so that the lanes of a load meet all banks.
__device__ __forceinline__ int swizzled(int row, int eight, int eights) {
  return row * eights + (eight ^ (row & 1) << 2);
}

// G vectors of D numbers in shared memory, D a multiple of 64.
template <int G>
class HalfVectors {
 public:
  // shared: G D floats at a multiple of 16 bytes; factors: G.
  __device__ __forceinline__ HalfVectors(float* shared, float* factors, int D)
      : high_(reinterpret_cast<Halves8*>(shared)),
        low_(high_ + G * (D / kHalves)),
        factors_(factors),
        eights_(D / kHalves) {}

  // Vector g becomes x, of which a thread has some channels. The team has met when others read it.
  template <class T, class Channels, int C>
  __device__ __forceinline__ void put(const T& team, const Channels& each_channel, int g,
                                      const real (&x)[C]) const {
    float largest = 0;
    each_channel([&](int k, int64_t) {
      largest = LargerSize()(::fabsf(static_cast<float>(x[k])), largest);
    });
    const float factor = scale_to_one(static_cast<float>(team.largest(largest)));
    each_channel([&](int k, int64_t d) {
      const float value = static_cast<float>(x[k]) * factor;
      const __half high = __float2half_rn(value);
      const int at = swizzled(g, static_cast<int>(d) / kHalves, eights_) * kHalves +
                     static_cast<int>(d) % kHalves;
      reinterpret_cast<__half*>(high_)[at] = high;
      reinterpret_cast<__half*>(low_)[at] = __float2half_rn(value - __half2float(high));
    });
    if (team.rank == 0) factors_[g] = inverse_of_power(factor);
  }
  // The lane's part of vector lane / 4: what `eight` counts from, and the rest of these.
  __device__ __forceinline__ void load(int eight, Halves8& high, Halves8& low) const {
    const int g = lane_of() / 4;
    high = low = Halves8{};
    if (g >= G) return;
    const int at = swizzled(g, eight + lane_of() % 4, eights_);
    high = high_[at];
    low = low_[at];
  }
  __device__ __forceinline__ float factor(int g) const { return factors_[g]; }

 private:
  Halves8 *high_, *low_;
  float* factors_;
  int eights_;
};

// out (G, P) <- the vectors times the rows, by all kWarps warps of the block, 16 rows a warp at a
// time. The order of what is summed up is free, so a lane takes eight neighbours, which are its
// parts of two tiles.
template <int G, int kWarps>
__device__ __forceinline__ void multiply_rows(int P, int D, const HalfRows& w,
                                              const HalfVectors<G>& vectors, real* out) {
  static_assert(G <= 8);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, g = lane_of() / 4, t = lane_of() % 4;
  for (int first = warp * 16; first < P; first += kWarps * 16) {
    const auto row_of = [&](int row) {
      return w.rows + (row < P ? row : P - 1) * (D / kHalves) + t;
    };
    const Halves8 *const upper = row_of(first + g), *const lower = row_of(first + g + 8);
    float sums[2][4]{};
#pragma unroll 4
    for (int eight = 0; eight < D / kHalves; eight += 4) {
      const Halves8 a = __ldcg(upper + eight), b = __ldcg(lower + eight);
      Halves8 high, low;
      vectors.load(eight, high, low);
      multiply_halves(sums[0], a.x, b.x, a.y, b.y, high.x, high.y);
      multiply_halves(sums[1], a.x, b.x, a.y, b.y, low.x, low.y);
      multiply_halves(sums[0], a.z, b.z, a.w, b.w, high.z, high.w);
      multiply_halves(sums[1], a.z, b.z, a.w, b.w, low.z, low.w);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int vector = 2 * t + i % 2, row = first + g + i / 2 * 8;
      if (vector < G && row < P)
        out[vector * P + row] = (sums[0][i] + sums[1][i]) * (w.scale[row] * vectors.factor(vector));
    }
  }
}

}  // namespace fprnn::cuda
