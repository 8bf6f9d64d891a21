// The product of a Kronecker mixer, p = left^T X right for the rows X (m1, m2) of a vector. A vector is spread
// over a team: thread i of n holds the channels i, i + n, ... in registers, or in memory where there are
// many. The transposed product is that of the transposed factors.
#pragma once

#include <fprnn/cuda/small_matrix.cuh>

namespace fprnn::cuda {

// The channels of a team's vector: `count` to a thread, a constant for registers, which are 0 beyond D.
template <class T, class Count, class Size>
struct Channels {
  T team;
  Count count;
  Size D;

  // visit(k, d) for the thread's k-th channel, d.
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    using Index = typename T::Index;
#pragma unroll
    for (Index k = 0; k < count; ++k) {
      const Index d = team.rank + k * T::kSize;
      if (d < D) visit(k, d);
    }
  }
  template <class Term>
  __device__ __forceinline__ real sum(const Term& term) const {
    real total = 0;
    each([&](auto k, auto) { total += term(k); });
    return team.sum(total);
  }
};
template <int C, class Size>
using WarpChannels = Channels<Team<false>, Constant<C>, Size>;

// A thread's part of a vector in memory, indexed as one in registers.
template <class Real>
struct Spread {
  Real* first;
  __device__ __forceinline__ Real& operator[](int64_t k) const {
    return first[k * Team<true>::kSize];
  }
};

// For sizes that a warp divides into columns: lane l has column l % M2 of every kGroups-th row. left^T X
// meets the other rows of the lane's column in lanes that are a multiple of M2 away; its rows go through
// shared memory to meet the lane's column of right, which stays in registers, as left does where it is
// small. left and right are (M1, M1) and (M2, M2), contiguous, in shared memory, and so is work (M1 M2);
// all begin at multiples of 16 bytes.
template <int M1, int M2>
class RegisterProduct {
 public:
  static constexpr int kGroups = kWarp / M2, C = M1 * M2 / kWarp;
  static constexpr int64_t kSpace = M1 * M1 + M2 * M2 + M1 * M2;
  static_assert(kWarp % M2 == 0 && M1 % kGroups == 0 && M1 * M1 % Quad::kCount == 0);
  static __device__ __forceinline__ WarpChannels<C, Constant<M1 * M2>> channels() { return {}; }

  __device__ __forceinline__ RegisterProduct(const real* left, const real* right, real* work)
      : left_(left), work_(work), group_(threadIdx.x % kWarp / M2) {
    const int column = threadIdx.x % M2;
#pragma unroll
    for (int j = 0; j < M2; ++j) right_[j] = right[j * M2 + column];
    if constexpr (kLeftStays) {
#pragma unroll
      for (int s = 0; s < kGroups; ++s)
#pragma unroll
        for (int r = 0; r < C; ++r) load_left(s, r, stay_[s * C + r]);
    }
  }

  // y <- left^T x right.
  template <class Channels>
  __device__ __forceinline__ void apply(const Channels&, const real (&x)[C], real (&y)[C]) const {
    real rows[C]{};
#pragma unroll
    for (int s = 0; s < kGroups; ++s)
#pragma unroll
      for (int r = 0; r < C; ++r) {
        const real other = s == 0 ? x[r] : __shfl_xor_sync(kAllLanes, x[r], s * M2);
        real left[C];
        if constexpr (!kLeftStays) load_left(s, r, left);
#pragma unroll
        for (int k = 0; k < C; ++k)
          rows[k] += (kLeftStays ? stay_[kLeftStays ? s * C + r : 0][k] : left[k]) * other;
      }
#pragma unroll
    for (int k = 0; k < C; ++k) {
      work_[threadIdx.x % kWarp + k * kWarp] = rows[k];
      y[k] = 0;
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < M2; j += Quad::kCount)
#pragma unroll
      for (int k = 0; k < C; ++k) {
        const Quad row = *reinterpret_cast<const Quad*>(work_ + (group_ + k * kGroups) * M2 + j);
#pragma unroll
        for (int q = 0; q < Quad::kCount; ++q) y[k] += row.v[q] * right_[j + q];
      }
    __syncwarp();
  }

 private:
  static constexpr bool kLeftStays = M1 * C <= 32;

  // What row r of the lanes s groups away adds to the lane's own rows.
  __device__ __forceinline__ void load_left(int s, int r, real (&to)[C]) const {
    const real* from = left_ + ((group_ ^ s) + r * kGroups) * M1 + group_;
    if constexpr (kGroups == 1) {
#pragma unroll
      for (int k = 0; k < C; k += Quad::kCount) {
        const Quad quad = *reinterpret_cast<const Quad*>(from + k);
#pragma unroll
        for (int q = 0; q < Quad::kCount; ++q) to[k + q] = quad.v[q];
      }
    } else {
#pragma unroll
      for (int k = 0; k < C; ++k) to[k] = from[k * kGroups];
    }
  }

  const real* left_;
  real* work_;
  int group_;
  real right_[M2], stay_[kLeftStays ? M1 : 1][C];
};

// visit(m1, m2) with the sizes that RegisterProduct is for as constants; false for others.
template <class Visit>
bool with_constants(int64_t m1, int64_t m2, const Visit& visit) {
  const auto is = [&](auto first, auto second) {
    if (m1 != first || m2 != second) return false;
    visit(first, second);
    return true;
  };
  return is(Constant<4>(), Constant<8>()) || is(Constant<8>(), Constant<8>()) ||
         is(Constant<8>(), Constant<16>()) || is(Constant<16>(), Constant<16>()) ||
         is(Constant<16>(), Constant<32>());
}

// For any sizes: left and right in any memory, contiguous; work (2 m1 m2) in shared memory, or a block's
// own in any.
template <class T>
struct AnyProduct {
  using Index = typename T::Index;
  const real *left, *right;
  real* work;
  Index m1, m2;

  template <class Channels, class X, class Y>
  __device__ __forceinline__ void apply(const Channels& c, const X& x, Y& y) const {
    real* const rows = work + m1 * m2;
    c.each([&](auto k, auto d) { work[d] = x[k]; });
    c.team.sync();
    small_product(
        c.team, m1, m1, m2, [&](Index i, Index l) { return left[l * m1 + i]; },
        [&](Index l, Index j) { return work[l * m2 + j]; },
        [&](Index i, Index j, real total) { rows[i * m2 + j] = total; });
    c.team.sync();
    small_product(
        c.team, m1, m2, m2, [&](Index i, Index l) { return rows[i * m2 + l]; },
        [&](Index l, Index j) { return right[l * m2 + j]; },
        [&](Index i, Index j, real total) { work[i * m2 + j] = total; });
    c.team.sync();
    c.each([&](auto k, auto d) { y[k] = work[d]; });
  }
};

}  // namespace fprnn::cuda
