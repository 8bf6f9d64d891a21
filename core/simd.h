// The vector type of the kernel files (core/isa.h): as many reals as a register of the instruction
// set holds. Included by X_kernel.cpp files only, each compiled with FPRNN_ISA and that set's
// flags.
//
// Everything is always_inline in the set's own namespace: a function emitted with AVX-512 code
// under a shared name could be picked by the linker for every machine. For the same reason kernel
// files call nothing of std. Remainders go through load_partial and the same arithmetic as full
// vectors, so an element's bits do not depend on where in a tensor it stands.
#pragma once

#include <fprnn/core/real.h>

#include <utility>

#if FPRNN_HAS_X86
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define FPRNN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define FPRNN_VECTOR_BYTES 32
#else
#define FPRNN_VECTOR_BYTES 16
#endif

#define FPRNN_INLINE inline __attribute__((always_inline))
#define FPRNN_DISPATCH FPRNN_INLINE  // for functions that choose a kernel: host code on a GPU
#define FPRNN_RARE __attribute__((noinline, cold))
#define FPRNN_LAMBDA __attribute__((always_inline))

namespace fprnn::FPRNN_ISA {

#if FPRNN_DOUBLE
using Integer = int64_t;
#else
using Integer = int32_t;
#endif

typedef real Vec __attribute__((vector_size(FPRNN_VECTOR_BYTES)));
using IntVec = decltype(Vec{} < Vec{});  // Integers: what a comparison gives, -1 or 0
typedef real UnalignedVec
    __attribute__((vector_size(FPRNN_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

inline constexpr int64_t kLanes = FPRNN_VECTOR_BYTES / sizeof(real);

FPRNN_INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }

FPRNN_INLINE Vec load(const real* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
FPRNN_INLINE void store(real* to, Vec x) { *reinterpret_cast<UnalignedVec*>(to) = x; }
FPRNN_INLINE Vec splat(real x) { return x - Vec{}; }  // no instruction but the broadcast

// Lane i holds -1 (true) where i < count.
FPRNN_INLINE IntVec first_lanes(int64_t count) {
  IntVec index;
  for (int64_t i = 0; i < kLanes; ++i) index[i] = static_cast<Integer>(i);
  return index < static_cast<Integer>(count);
}

// The first count lanes; the others read as zero and are not written, nor is their memory touched.
#if defined(__AVX512F__) && FPRNN_DOUBLE
FPRNN_INLINE Vec load_partial(const real* from, int64_t count) {
  return Vec(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), from));
}
FPRNN_INLINE void store_partial(real* to, Vec x, int64_t count) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1), __m512d(x));
}
#elif defined(__AVX512F__)
FPRNN_INLINE Vec load_partial(const real* from, int64_t count) {
  return Vec(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from));
}
FPRNN_INLINE void store_partial(real* to, Vec x, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), __m512(x));
}
#elif defined(__AVX2__) && !FPRNN_DOUBLE
FPRNN_INLINE Vec load_partial(const real* from, int64_t count) {
  return Vec(_mm256_maskload_ps(from, __m256i(first_lanes(count))));
}
FPRNN_INLINE void store_partial(real* to, Vec x, int64_t count) {
  _mm256_maskstore_ps(to, __m256i(first_lanes(count)), __m256(x));
}
#else
FPRNN_INLINE Vec load_partial(const real* from, int64_t count) {
  Vec x{};
  for (int64_t i = 0; i < count; ++i) x[i] = from[i];
  return x;
}
FPRNN_INLINE void store_partial(real* to, Vec x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = x[i];
}
#endif

// -1 (true) where the sign bit is set, as in -0.
FPRNN_INLINE IntVec sign_bit(Vec x) { return __builtin_bit_cast(IntVec, x) < 0; }
FPRNN_INLINE Vec select(IntVec condition, Vec yes, Vec no) { return condition ? yes : no; }

// FPRNN_X86_INTRINSIC(max) is Vec's, such as _mm512_max_ps, for operations that compilers do not
// recognise.
#if FPRNN_HAS_X86
#if defined(__AVX512F__)
#define FPRNN_X86_PREFIX _mm512
#elif defined(__AVX2__)
#define FPRNN_X86_PREFIX _mm256
#else
#define FPRNN_X86_PREFIX _mm
#endif
#define FPRNN_X86_JOIN(prefix, name, suffix) prefix##_##name##_##suffix
#define FPRNN_X86_NAME(prefix, name, suffix) FPRNN_X86_JOIN(prefix, name, suffix)
#if FPRNN_DOUBLE
#define FPRNN_X86_INTRINSIC(name) FPRNN_X86_NAME(FPRNN_X86_PREFIX, name, pd)
#else
#define FPRNN_X86_INTRINSIC(name) FPRNN_X86_NAME(FPRNN_X86_PREFIX, name, ps)
#endif
// max and min return their second operand where one is NaN: NaN in x is kept.
FPRNN_INLINE Vec at_least(Vec x, real low) { return Vec(FPRNN_X86_INTRINSIC(max)(splat(low), x)); }
FPRNN_INLINE Vec at_most(Vec x, real high) { return Vec(FPRNN_X86_INTRINSIC(min)(splat(high), x)); }
FPRNN_INLINE Vec square_root(Vec x) { return Vec(FPRNN_X86_INTRINSIC(sqrt)(x)); }
#else
FPRNN_INLINE Vec at_least(Vec x, real low) { return select(x < low, splat(low), x); }
FPRNN_INLINE Vec at_most(Vec x, real high) { return select(x > high, splat(high), x); }
FPRNN_INLINE Vec square_root(Vec x) {
  for (int64_t i = 0; i < kLanes; ++i) x[i] = static_cast<real>(__builtin_sqrt(x[i]));
  return x;
}
#endif
FPRNN_INLINE real square_root(real x) { return static_cast<real>(__builtin_sqrt(x)); }

// The sums of neighbouring lanes, those of a before those of b.
template <int... I>
FPRNN_INLINE Vec add_neighbours(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}
FPRNN_INLINE Vec add_neighbours(Vec a, Vec b) {
  return add_neighbours(a, b, std::make_integer_sequence<int, kLanes>());
}

// Lane i of the result is the sum of the lanes of x[i * stride], for Count = kLanes vectors.
template <int64_t Count = kLanes>
FPRNN_INLINE Vec sums(const Vec* x, int64_t stride) {
  if constexpr (Count == 1)
    return x[0];
  else
    return add_neighbours(sums<Count / 2>(x, stride),
                          sums<Count / 2>(x + Count / 2 * stride, stride));
}

// Rows of x become columns, in each group of Width lanes by itself. Each round interleaves the first
// half of the rows with the second, which rotates the bits of an element's index (row, column) by
// one.
template <int Width, bool Upper, int... I>
FPRNN_INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, I...>) {
  constexpr int kFirst = Upper ? Width / 2 : 0;
  return __builtin_shufflevector(
      a, b, (I / Width * Width + kFirst + I % Width / 2 + I % 2 * static_cast<int>(kLanes))...);
}
template <int Width>
FPRNN_INLINE void transpose(Vec (&x)[Width]) {
  constexpr auto kIndices = std::make_integer_sequence<int, kLanes>();
  for (int round = 1; round < Width; round *= 2) {
    Vec y[Width];
    for (int i = 0; i < Width / 2; ++i) {
      y[2 * i] = interleave<Width, false>(x[i], x[i + Width / 2], kIndices);
      y[2 * i + 1] = interleave<Width, true>(x[i], x[i + Width / 2], kIndices);
    }
    for (int i = 0; i < Width; ++i) x[i] = y[i];
  }
}

// A vector is 1, 2 or 4 groups of 16 bytes. Group g of the result is read from rows[g * kGroup] + at.
inline constexpr int64_t kGroup = 16 / sizeof(real);
FPRNN_INLINE Vec load_groups(const real* const* rows, int64_t at) {
#if defined(__AVX2__)
  const auto group = [&](int64_t g) FPRNN_LAMBDA {
    return _mm_loadu_ps(reinterpret_cast<const float*>(rows[g * kGroup] + at));
  };
#if defined(__AVX512F__)
  __m512 x = _mm512_castps128_ps512(group(0));
  x = _mm512_mask_broadcast_f32x4(x, 0x00F0, group(1));
  x = _mm512_mask_broadcast_f32x4(x, 0x0F00, group(2));
  x = _mm512_mask_broadcast_f32x4(x, 0xF000, group(3));
#else
  const __m256 x = _mm256_insertf128_ps(_mm256_castps128_ps256(group(0)), group(1), 1);
#endif
  return __builtin_bit_cast(Vec, x);
#else
  return load(rows[0] + at);
#endif
}

// x[i] <- rows[0][at + i], rows[1][at + i], .. of kLanes rows: a square of a matrix, transposed, or
// kGroup columns of it. Loads put groups in their places, which leaves less to interleave.
FPRNN_INLINE void load_columns(const real* const* rows, int64_t at, Vec (&x)[kGroup]) {
#pragma GCC unroll 4
  for (int64_t i = 0; i < kGroup; ++i) x[i] = load_groups(rows + i, at);
  transpose(x);
}
FPRNN_INLINE void load_transposed(const real* const* rows, int64_t at, Vec (&x)[kLanes]) {
#pragma GCC unroll 16
  for (int64_t k = 0; k < kLanes; k += kGroup) {
    Vec group[kGroup];
    load_columns(rows, at + k, group);
#pragma GCC unroll 4
    for (int64_t i = 0; i < kGroup; ++i) x[k + i] = group[i];
  }
}

FPRNN_INLINE real sum(Vec x) {
  for (int64_t lanes = kLanes; lanes > 1; lanes /= 2) x = add_neighbours(x, x);
  return x[0];
}

FPRNN_INLINE Vec magnitude(Vec x) { return select(x < 0, -x, x); }
FPRNN_INLINE Vec larger(Vec a, Vec b) { return select(a > b, a, b); }  // b where one is NaN
FPRNN_INLINE Vec larger_or_nan(Vec a, Vec b) { return select(a != a, a, select(b <= a, a, b)); }
FPRNN_INLINE real largest_or_nan(Vec x) {
  real most = x[0];
  for (int64_t i = 1; i < kLanes; ++i) most = fprnn::larger_or_nan(x[i], most);
  return most;
}
template <int... I>
FPRNN_INLINE Vec larger_neighbours(Vec x, std::integer_sequence<int, I...>) {
  return larger(__builtin_shufflevector(x, x, (2 * I)...),
                __builtin_shufflevector(x, x, (2 * I + 1)...));
}
FPRNN_INLINE real largest(Vec x) {
  for (int64_t lanes = kLanes; lanes > 1; lanes /= 2)
    x = larger_neighbours(x, std::make_integer_sequence<int, kLanes>());
  return x[0];
}

// The first count lanes of x; zero in the others.
FPRNN_INLINE Vec keep(Vec x, int64_t count) { return select(first_lanes(count), x, Vec{}); }

// for_lanes calls body(offset, lanes) over [0, count), with lanes a Full or, at the end, a Partial:
// one body serves full vectors and the remainder.
struct Full {
  FPRNN_INLINE Vec load(const real* from) const { return FPRNN_ISA::load(from); }
  FPRNN_INLINE void store(real* to, Vec x) const { FPRNN_ISA::store(to, x); }
  FPRNN_INLINE Vec keep(Vec x) const { return x; }
};
struct Partial {
  int64_t count;
  FPRNN_INLINE Vec load(const real* from) const { return load_partial(from, count); }
  FPRNN_INLINE void store(real* to, Vec x) const { store_partial(to, x, count); }
  FPRNN_INLINE Vec keep(Vec x) const { return FPRNN_ISA::keep(x, count); }
};
// Of what may be missing.
template <class Lanes>
FPRNN_INLINE Vec load_or_zero(const real* from, int64_t at, Lanes lanes) {
  return from != nullptr ? lanes.load(from + at) : Vec{};
}
template <class Body>
FPRNN_INLINE void for_lanes(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, Full{});
  if (i < count) body(i, Partial{count - i});
}

}  // namespace fprnn::FPRNN_ISA
