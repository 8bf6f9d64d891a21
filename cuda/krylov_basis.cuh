// An orthonormal basis of a Krylov space (ops/kronecker_solve.md), its vectors spread over the team
// like all others.
#pragma once

#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::cuda {

// What goes through one exchange of a team: so many vectors' products with another, and two sums. Where there
// are few vectors, or few beyond those, fewer.
inline constexpr int kVectorsTogether = 14, kFewVectors = 6;

// The thread's part of the basis: the first vectors in registers, of long parts not all of kVectorsTogether, but the rest
// of those in shared memory; all others, few at a time, in memory of its own, which is not a
// member, since what lies beside something that is counted through lies in memory too.
template <class T, int Most, int C>
struct NearBasis {
  static constexpr int kMost = Most;
  static constexpr int kNear = C < 8 ? kVectorsTogether : kFewVectors;
  static constexpr int kShared = (kVectorsTogether - kNear) * C * T::kSize;  // reals of the team
  static constexpr int kFar = Most > kVectorsTogether ? Most - kVectorsTogether : 0;
  using Far = real[(kFar / kFewVectors + 1) * kFewVectors][C];

  Far& far;
  Quad* shared;  // the thread's first
  real near[kNear][C];

  // What is not a vector yet is 0, so that it has no part in sums.
  __device__ __forceinline__ void clear() {
    each_constant<kNear>([&](auto j) { each_constant<C>([&](auto k) { near[j][k] = 0; }); });
  }
  template <class Channels>
  __device__ __forceinline__ void put(const Channels&, int i, const real (&v)[C]) {
    if (i < kNear) return put_near<0, kNear>(i, v);
    if (i < kVectorsTogether) return put_shared(i, v);
    real(*const few)[C] = far + (i - kVectorsTogether) / kFewVectors * kFewVectors;
    const int j = (i - kVectorsTogether) % kFewVectors;
    if (j == 0)
      each_constant<kFewVectors>([&](auto l) { each_constant<C>([&](auto k) { few[l][k] = 0; }); });
    each_constant<C>([&](auto k) { few[j][k] = v[k]; });
  }
  // parts[i]: the thread's part of v times vector first + i, for kCount vectors, of which there are
  // m. first: Constant<0>, or kVectorsTogether and then kFewVectors more each time.
  template <int kCount, class Channels, class First, class Parts>
  __device__ __forceinline__ void dots(const Channels&, First first, int m, const real (&v)[C],
                                       Parts& parts) const {
    each<kCount>(first, m, [&](auto i, const real(&vector)[C]) {
      parts[i] = 0;
      each_constant<C>([&](auto k) { parts[i] += v[k] * vector[k]; });
    });
  }
  // v <- v + the sum of part(i) vector first + i.
  template <int kCount, class Channels, class First, class Part>
  __device__ __forceinline__ void add(const Channels&, First first, int m, const Part& part,
                                      real (&v)[C]) const {
    each<kCount>(first, m, [&](auto i, const real(&vector)[C]) {
      const real factor = part(i);
      each_constant<C>([&](auto k) { v[k] += factor * vector[k]; });
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
  // Quads of neighbouring threads are neighbours.
  static constexpr int kQuads = C / Quad::kCount;
  __device__ __forceinline__ Quad* shared_quad(int i, int q) const {
    return shared + ((i - kNear) * kQuads + q) * T::kSize;
  }
  __device__ __forceinline__ void put_shared(int i, const real (&v)[C]) const {
    each_constant<kQuads>([&](auto q) {
      Quad quad;
      each_constant<Quad::kCount>([&](auto j) { quad.v[j] = v[Quad::kCount * q + j]; });
      *shared_quad(i, q) = quad;
    });
  }
  template <int kCount, class Visit>
  __device__ __forceinline__ void each(Constant<0>, int m, const Visit& visit) const {
    each_constant<kCount>([&](auto i) {
      if constexpr (i < kNear) {
        visit(i, near[i]);
      } else {
        real vector[C]{};
        if (i < m)
          each_constant<kQuads>([&](auto q) {
            const Quad quad = *shared_quad(i, q);
            each_constant<Quad::kCount>([&](auto j) { vector[Quad::kCount * q + j] = quad.v[j]; });
          });
        visit(i, vector);
      }
    });
  }
  template <int kCount, class Visit>
  __device__ __forceinline__ void each(int first, int, const Visit& visit) const {
    each_constant<kCount>([&](auto i) { visit(i, far[first - kVectorsTogether + i]); });
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
