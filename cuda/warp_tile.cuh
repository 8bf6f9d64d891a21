// Products of matrices in shared memory: a warp has a tile of 16 rows and 8 N columns, whose
// sums stay in its registers until they are given away. Rows in shared memory lie one more than a
// multiple of 32 numbers apart, and a lane takes 8 neighbours of what is summed over, so that a
// load meets all banks once, whether it goes along rows or along columns.
#pragma once

#include <fprnn/core/real.h>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/tile.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

// Factors of a product: x's rows from `first` on, or its columns.
template <class Rows>
struct Along {
  const Rows& x;
  int first;
  __device__ __forceinline__ real operator()(int i, int l) const { return x[first + i][l]; }
};
template <class Rows>
struct Across {
  const Rows& x;
  int first;
  __device__ __forceinline__ real operator()(int i, int l) const { return x[l][first + i]; }
};
template <class Rows>
__device__ __forceinline__ Along<Rows> along(const Rows& x, int first) {
  return {x, first};
}
template <class Rows>
__device__ __forceinline__ Across<Rows> across(const Rows& x, int first) {
  return {x, first};
}

// Parts 1: numbers are rounded to tf32. Parts 3: the error is that of floats.
template <int Parts, int N = 4>
class WarpTile {
  static_assert(Parts == 1 || Parts == 3);

 public:
  static constexpr int kRows = 16, kColumns = 8 * N, kDepth = 32;

  // += the sum over l < depth, a multiple of 32, of a(i, l) b(j, l). All lanes of the warp.
  template <class A, class B>
  __device__ __forceinline__ void add(int depth, const A& a, const B& b) {
    const int g = lane_of() / 4, t = lane_of() % 4;
#pragma unroll 1
    for (int from = 0; from < depth; from += kDepth)
      unrolled<kDepth / 8>([&](int step) {
        const int l = from + 8 * t + 2 * step;
        const auto of_a = [&](int i, int at) { return Part(static_cast<float>(a(i, at))); };
        const auto of_b = [&](int j, int at) { return Part(static_cast<float>(b(j, at))); };
        const Part x[4]{of_a(g, l), of_a(g + 8, l), of_a(g, l + 1), of_a(g + 8, l + 1)};
        unrolled<N>([&](int n) {
          const Part y[2]{of_b(8 * n + g, l), of_b(8 * n + g, l + 1)};
          multiply_tiles(c_[n][0], x[0].high, x[1].high, x[2].high, x[3].high, y[0].high,
                         y[1].high);
          if constexpr (Parts == 3) {
            multiply_tiles(c_[n][1], x[0].high, x[1].high, x[2].high, x[3].high, y[0].low,
                           y[1].low);
            multiply_tiles(c_[n][1], x[0].low, x[1].low, x[2].low, x[3].low, y[0].high, y[1].high);
          }
        });
      });
  }
  // Row i times of_row(i).
  template <class Factor>
  __device__ __forceinline__ void scale(const Factor& of_row) {
    const int g = lane_of() / 4;
    const float upper = static_cast<float>(of_row(g)), lower = static_cast<float>(of_row(g + 8));
    unrolled<N>([&](int n) {
      unrolled<kSums>(
          [&](int part) { unrolled<4>([&](int k) { c_[n][part][k] *= k < 2 ? upper : lower; }); });
    });
  }
  __device__ __forceinline__ void operator+=(const WarpTile& other) {
    unrolled<N>([&](int n) {
      unrolled<kSums>(
          [&](int part) { unrolled<4>([&](int k) { c_[n][part][k] += other.c_[n][part][k]; }); });
    });
  }
  // give(i, j, sum) for the lane's own.
  template <class Give>
  __device__ __forceinline__ void give(const Give& give) const {
    const int g = lane_of() / 4, t = lane_of() % 4;
    unrolled<N>([&](int n) {
      unrolled<4>([&](int k) { give(g + k / 2 * 8, 8 * n + 2 * t + k % 2, real(sum(n, k))); });
    });
  }
  // to(i, x), x the sum over j of sum(i, j) weight(i, j); one lane of each row writes.
  template <class Weight, class To>
  __device__ __forceinline__ void row_sums(const Weight& weight, const To& to) const {
    const int g = lane_of() / 4, t = lane_of() % 4;
    float total[2]{};
    unrolled<N>([&](int n) {
      unrolled<4>([&](int k) {
        total[k / 2] +=
            sum(n, k) * static_cast<float>(weight(g + k / 2 * 8, 8 * n + 2 * t + k % 2));
      });
    });
    unrolled<2>([&](int half) {
      const float x = warp_sum<4>(total[half]);
      if (t == 0) to(g + 8 * half, real(x));
    });
  }

 private:
  static constexpr int kSums = Parts == 3 ? 2 : 1;  // what is large, and what is left of that

  struct Rounded {
    uint32_t high;
    __device__ __forceinline__ explicit Rounded(float x) : high(as_tf32(x)) {}
  };
  using Part = std::conditional_t<Parts == 3, HighLow, Rounded>;

  __device__ __forceinline__ float sum(int n, int k) const {
    if constexpr (Parts == 3)
      return c_[n][0][k] + c_[n][1][k];
    else
      return c_[n][0][k];
  }

  float c_[N][kSums][4]{};
};

}  // namespace fprnn::cuda
