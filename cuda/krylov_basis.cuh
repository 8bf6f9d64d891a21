// An orthonormal basis of a Krylov space (ops/kronecker_solve.md), whose vectors are spread over the team as all
// are.
#pragma once

#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::cuda {

// Vectors of Krylov's space for up to D channels.
constexpr int krylov_most(int D) {
  return D > kKrylovLong ? kKrylovMostLong : D < kKrylovMost ? D : kKrylovMost;
}

// What goes through one exchange of a team: so many vectors' products with another, and two sums. Where there
// are few vectors, fewer.
inline constexpr int kVectorsTogether = 14, kFewVectors = 6;

// The thread's part of the basis: the first vectors in registers, the others in memory of its own, which is not
// a member, since what lies beside something that is counted through lies in memory too.
template <int Most, int C>
struct NearBasis {
  static constexpr int kMost = Most;
  static constexpr int kChunks = (Most + kVectorsTogether - 1) / kVectorsTogether;
  using Far = real[kChunks > 1 ? (kChunks - 1) * kVectorsTogether : 1][C];

  Far& far;
  real near[kVectorsTogether][C];

  // What is not a vector yet is 0, so that it has no part in sums.
  __device__ __forceinline__ void clear() {
    each_constant<kVectorsTogether>(
        [&](auto j) { each_constant<C>([&](auto k) { near[j][k] = 0; }); });
  }
  template <class Channels>
  __device__ __forceinline__ void put(const Channels&, int i, const real (&v)[C]) {
    if (i < kVectorsTogether) return put_near<0, kVectorsTogether>(i, v);
    real(*const chunk)[C] = far + (i - kVectorsTogether) / kVectorsTogether * kVectorsTogether;
    if (i % kVectorsTogether == 0)
      each_constant<kVectorsTogether>(
          [&](auto j) { each_constant<C>([&](auto k) { chunk[j][k] = 0; }); });
    each_constant<C>([&](auto k) { chunk[i % kVectorsTogether][k] = v[k]; });
  }
  // parts[i]: the thread's part of v times vector first + i, for kCount vectors. first:
  // Constant<0>, or a multiple of kVectorsTogether above.
  template <int kCount, class Channels, class First, class Parts>
  __device__ __forceinline__ void dots(const Channels&, First first, int, const real (&v)[C],
                                       Parts& parts) const {
    with_chunk(first, [&](const auto& vectors) {
      each_constant<kCount>([&](auto i) {
        parts[i] = 0;
        each_constant<C>([&](auto k) { parts[i] += v[k] * vectors[i][k]; });
      });
    });
  }
  // v <- v + the sum of part(i) vector first + i.
  template <int kCount, class Channels, class First, class Part>
  __device__ __forceinline__ void add(const Channels&, First first, int, const Part& part,
                                      real (&v)[C]) const {
    with_chunk(first, [&](const auto& vectors) {
      each_constant<kCount>([&](auto i) {
        const real factor = part(i);
        each_constant<C>([&](auto k) { v[k] += factor * vectors[i][k]; });
      });
    });
  }

 private:
  // Registers cannot be counted through: halves are chosen from until few are left.
  template <int First, int End>
  __device__ __forceinline__ void put_near(int i, const real (&v)[C]) {
    if constexpr (End - First <= 4) {
      each_constant<End - First>([&](auto j) {
        each_constant<C>(
            [&](auto k) { near[First + j][k] = i == First + j ? v[k] : near[First + j][k]; });
      });
    } else {
      constexpr int kMiddle = (First + End) / 2;
      if (i < kMiddle)
        put_near<First, kMiddle>(i, v);
      else
        put_near<kMiddle, End>(i, v);
    }
  }
  template <class Visit>
  __device__ __forceinline__ void with_chunk(Constant<0>, const Visit& visit) const {
    visit(near);
  }
  template <class Visit>
  __device__ __forceinline__ void with_chunk(int first, const Visit& visit) const {
    visit(far + (first - kVectorsTogether));
  }
};
// All of it in memory, as the vectors themselves.
template <class T>
struct FarBasis {
  static constexpr int kMost = kKrylovMostLong;
  real* first;  // the thread's first element of (kMost, D)
  int64_t D;

  __device__ __forceinline__ void clear() const {}

  __device__ __forceinline__ real& at(int i, int64_t k) const {
    return first[i * D + k * T::kSize];
  }
  template <class Channels, class V>
  __device__ __forceinline__ void put(const Channels& c, int i, const V& v) const {
    c.each([&](auto k, auto) { at(i, k) = v[k]; });
  }
  template <int kCount, class Channels, class V, class Parts>
  __device__ __forceinline__ void dots(const Channels& c, int first, int m, const V& v,
                                       Parts& parts) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      parts[i] = 0;
      if (first + i < m) c.each([&](auto k, auto) { parts[i] += v[k] * at(first + i, k); });
    }
  }
  template <int kCount, class Channels, class Part, class V>
  __device__ __forceinline__ void add(const Channels& c, int first, int m, const Part& part,
                                      V& v) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const real factor = part(i);
      if (first + i < m) c.each([&](auto k, auto) { v[k] += factor * at(first + i, k); });
    }
  }
};

}  // namespace fprnn::cuda
