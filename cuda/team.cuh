// A team, the threads that share a token: one warp, or a few neighbouring warps of a block that
// wait for each other and for no other. A team adds up numbers in an order that depends on its size
// alone.
#pragma once

#include <fprnn/core/real.h>
#include <fprnn/cuda/block.cuh>

#include <type_traits>

namespace fprnn::cuda {

// Lanes whose numbers differ in bit kDistance share what they have of 2 kHalf values: each keeps one half of
// them; then of the next lower bit. A function for each bit, since a loop that two numbers count is
// not written out, and then x lies in memory: that cost 5,000 cycles for sixteen sums.
template <int kHalf, int kDistance, int K>
__device__ __forceinline__ void fold(real (&x)[K], int lane) {
  if constexpr (kHalf > 0) {
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const real mine = upper ? x[i + kHalf] : x[i], other = upper ? x[i] : x[i + kHalf];
      x[i] = mine + __shfl_xor_sync(kAllLanes, other, kDistance);
    }
  } else {
    x[0] += __shfl_xor_sync(kAllLanes, x[0], kDistance);
  }
  if constexpr (kDistance > 1) fold<kHalf / 2, kDistance / 2>(x, lane);
}
// Sums over a warp of K values at once, K a power of two: lane l has that of value l K / 32.
template <int K>
__device__ __forceinline__ real sums_by_lane(real (&x)[K]) {
  static_assert(K <= kWarp && (K & (K - 1)) == 0);
  fold<K / 2, kWarp / 2>(x, lane_of());
  return x[0];
}

// A place in shared memory, kept in a register: the compiler would rather find it anew each time.
class SharedPlace {
 public:
  __device__ __forceinline__ explicit SharedPlace(const real* at)
      : bytes_(static_cast<uint32_t>(__cvta_generic_to_shared(at))) {
    asm volatile("" : "+r"(bytes_));
  }
  template <class Value = real>
  __device__ __forceinline__ Value& at(int reals) const {
    return *static_cast<Value*>(__cvta_shared_to_generic(address(reals)));
  }
  __device__ __forceinline__ uint32_t address(int reals) const {
    return bytes_ + reals * static_cast<int>(sizeof(real));
  }

 private:
  uint32_t bytes_;
};

// W warps. What they tell each other goes through two places in turns, so that one barrier does: whoever
// writes to a place again has passed the barrier after which all had read it.
// FirstBarrier: the hardware's number of the barrier of a block's first team; 0 is the block's.
template <int W, int FirstBarrier = 1>
class Team {
 public:
  static constexpr int kWarps = W, kSize = W * kWarp;
  static constexpr int kTogether = kWarp;                        // values in one exchange
  static constexpr int kSpace = W == 1 ? 0 : 2 * kTogether * W;  // reals of shared memory
  // What the elements of a token's matrices are counted in.
  using Index = std::conditional_t<(W >= 8), int64_t, int>;

  int rank;  // of this thread
  __device__ __forceinline__ int lane() const { return rank & (kWarp - 1); }
  __device__ __forceinline__ int warp() const { return rank >> 5; }

  // shared: the team's own kSpace reals at a multiple of 16 bytes.
  __device__ __forceinline__ explicit Team(real* shared)
      : rank(static_cast<int>(threadIdx.x % unsigned{kSize})), places_(shared) {}
  Team(const Team&) = delete;

  __device__ __forceinline__ void sync() const {
    if constexpr (W == 1)
      __syncwarp();
    else
      asm volatile("bar.sync %0, %1;" ::"r"(FirstBarrier + static_cast<int>(threadIdx.x) / kSize),
                   "n"(kSize)
                   : "memory");
  }
  // sync, and whether x of any thread.
  __device__ __forceinline__ bool any(bool x) const {
    if constexpr (W == 1) {
      __syncwarp();
      return __any_sync(kAllLanes, x);
    } else {
      int found;
      asm volatile(
          "{\n .reg .pred mine, all;\n setp.ne.s32 mine, %3, 0;\n"
          " bar.red.or.pred all, %1, %2, mine;\n selp.s32 %0, 1, 0, all;\n}"
          : "=r"(found)
          : "r"(FirstBarrier + static_cast<int>(threadIdx.x) / kSize), "n"(kSize), "r"(int{x})
          : "memory");
      return found != 0;
    }
  }
  // The thread's half of the team, as a team on its memory; the whole has met before and after.
  __device__ __forceinline__ auto half() const {
    static_assert(W % 2 == 0);
    // Barriers of a block's teams, seven at most, come before; as many follow for their halves.
    constexpr int kBarriers = 8;
    return Team<W / 2, kBarriers>(&places_.at(rank / (kSize / 2) * (kSpace / 2)));
  }

  __device__ __forceinline__ real sum(real x) const { return exchange(warp_sum(x), Plus()); }
  // x must not be negative; NaN if any is.
  __device__ __forceinline__ real largest(real x) const {
    return exchange(warp_largest(x), LargerSize());
  }
  // x[i] <- the sum of all x[i], for all of them at once.
  template <int K>
  __device__ __forceinline__ void sums(real (&x)[K]) const {
    if constexpr (W == 1) {
#pragma unroll
      for (int i = 0; i < K; ++i) x[i] = warp_sum(x[i]);
    } else {
#pragma unroll
      for (int first = 0; first < K; first += kTogether) {
        // Two or four at a time: as many parts of the lanes end with one each.
        constexpr int kCount = K <= 2 ? K : 4, kLanes = kWarp / kCount;
#pragma unroll
        for (int i = first; i < K && i < first + kTogether; i += kCount) {
          real few[kCount];
#pragma unroll
          for (int j = 0; j < kCount; ++j) few[j] = i + j < K ? x[i + j] : real(0);
          const real own = sums_by_lane(few);
          const int j = lane() / kLanes;
          if (lane() % kLanes == 0 && i + j < K) place((i - first + j) * W + warp()) = own;
        }
        sync();
#pragma unroll
        for (int i = first; i < K && i < first + kTogether; ++i) x[i] = combined(i - first, Plus());
        turn();
      }
    }
  }
  // The same of K values, K a power of two, but lane l of each warp has that of value l K / 32 alone.
  template <int K>
  __device__ __forceinline__ real sums_apart(real (&x)[K]) const {
    real own = sums_by_lane(x);
    if constexpr (W == 1) return own;
    constexpr int kLanes = kWarp / K;
    const int value = lane() / kLanes;
    if (lane() % kLanes == 0) place(value * W + warp()) = own;
    sync();
    own = combined(value, Plus());
    turn();
    return own;
  }
  // x[i] <- the largest x[i], of numbers as in `largest`.
  template <int K>
  __device__ __forceinline__ void maxima(real (&x)[K]) const {
    static_assert(K <= kTogether);
#pragma unroll
    for (int i = 0; i < K; ++i) {
      x[i] = warp_largest(x[i]);
      if (W > 1 && lane() == 0) place(i * W + warp()) = x[i];
    }
    if constexpr (W > 1) {
      sync();
#pragma unroll
      for (int i = 0; i < K; ++i) x[i] = combined(i, LargerSize());
      turn();
    }
  }
  // visit(i) for the thread's own i < n.
  template <class N, class Visit>
  __device__ __forceinline__ void each(N n, const Visit& visit) const {
    for (Index i = rank; i < n; i += kSize) visit(i);
  }
  // The sum of term(i) for all i < n.
  template <class N, class Term>
  __device__ __forceinline__ real sum_of(N n, const Term& term) const {
    real total = 0;
    each(n, [&](Index i) { total += term(i); });
    return sum(total);
  }
  // visit(i, j) for the thread's own elements of a matrix (m, n), neighbours in a row for
  // neighbours.
  template <class M, class N, class Visit>
  __device__ __forceinline__ void each_element(M m, N n, const Visit& visit) const {
    const Index rows = m, columns = n;
#pragma unroll 4
    for (Index t = rank; t < rows * columns; t += kSize) visit(t / n, t % n);
  }
  // What is contiguous, to such a place.
  template <class N>
  __device__ __forceinline__ void copy(N n, const real* from, real* to) const {
#pragma unroll 8
    for (Index i = rank; i < n; i += kSize) to[i] = from[i];
  }
  // give(i, the sum of term(i, j) over j < n) for all i < m, by as many neighbouring threads a row
  // as that leaves busy.
  template <class M, class N, class Term, class Give>
  __device__ __forceinline__ void row_sums(M m, N n, const Term& term, const Give& give) const {
    constexpr int kLanes = W == 1 ? 1 : W < 8 ? 8 : kWarp;
    const Index rows = (m + kSize / kLanes - 1) / (kSize / kLanes) * (kSize / kLanes);
    for (Index i = rank / kLanes; i < rows; i += kSize / kLanes) {
      real total = 0;
      if (i < m)
#pragma unroll 8
        for (Index j = rank % kLanes; j < n; j += kLanes) total += term(i, j);
      if constexpr (kLanes > 1) total = warp_sum<kLanes>(total);
      if (rank % kLanes == 0 && i < m) give(i, total);
    }
  }

 private:
  __device__ __forceinline__ real& place(int i) const { return places_.at(turn_ + i); }
  __device__ __forceinline__ void turn() const { turn_ ^= kTogether * W; }

  // Value i of every warp, combined in their order.
  template <class Combine>
  __device__ __forceinline__ real combined(int i, const Combine& combine) const {
    constexpr int kQuads = W % Quad::kCount == 0 ? W / Quad::kCount : 0;
    real x = 0;
    if constexpr (kQuads > 0) {
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const Quad few = places_.template at<Quad>(turn_ + i * W + q * Quad::kCount);
#pragma unroll
        for (int j = 0; j < Quad::kCount; ++j) x = q + j == 0 ? few.v[j] : combine(x, few.v[j]);
      }
    } else {
      x = place(i * W);
#pragma unroll
      for (int w = 1; w < W; ++w) x = combine(x, place(i * W + w));
    }
    return x;
  }
  // x of every warp, combined.
  template <class Combine>
  __device__ __forceinline__ real exchange(real x, const Combine& combine) const {
    if constexpr (W == 1) return x;
    if (lane() == 0) place(warp()) = x;
    sync();
    x = combined(0, combine);
    turn();
    return x;
  }

  SharedPlace places_;
  mutable int turn_ = 0;
};

}  // namespace fprnn::cuda
