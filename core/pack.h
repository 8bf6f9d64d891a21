// Several vectors that go through the same arithmetic together. One vector alone is a chain of
// dependent instructions, each of which waits some four cycles for the one before. A processor
// looks about a hundred instructions ahead for independent work, and a Pack of four vectors puts it
// there.
//
// The functions of vector_math.h are written once for V = Vec and V = Pack. For kernel files only.
#pragma once

#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

// body(0), ..., body(Count - 1), written out: compilers keep an array in registers only if they see
// constant indices early.
template <class Body, int... I>
FPRNN_INLINE void repeat(const Body& body, std::integer_sequence<int, I...>) {
  (body(I), ...);
}
template <int Count, class Body>
FPRNN_INLINE void repeat(const Body& body) {
  repeat(body, std::make_integer_sequence<int, Count>());
}

template <int Count, class Element = Vec>
struct Pack {
  Element v[Count];
};

// result.v[i] = function(x.v[i], ...).
template <int Count, class Function, class Element, class... Others>
FPRNN_INLINE auto each(const Function& function, const Pack<Count, Element>& x,
                       const Others&... others) {
  Pack<Count, decltype(function(x.v[0], others.v[0]...))> result;
  repeat<Count>([&](int i) FPRNN_LAMBDA { result.v[i] = function(x.v[i], others.v[i]...); });
  return result;
}

#define FPRNN_PACK_OPERATOR(op)                                               \
  template <int Count>                                                        \
  FPRNN_INLINE auto operator op(const Pack<Count>& a, const Pack<Count>& b) { \
    return each([](Vec x, Vec y) { return x op y; }, a, b);                   \
  }                                                                           \
  template <int Count>                                                        \
  FPRNN_INLINE auto operator op(const Pack<Count>& a, real b) {               \
    return each([b](Vec x) { return x op b; }, a);                            \
  }                                                                           \
  template <int Count>                                                        \
  FPRNN_INLINE auto operator op(real a, const Pack<Count>& b) {               \
    return each([a](Vec x) { return a op x; }, b);                            \
  }
FPRNN_PACK_OPERATOR(+)
FPRNN_PACK_OPERATOR(-)
FPRNN_PACK_OPERATOR(*)
FPRNN_PACK_OPERATOR(/)
FPRNN_PACK_OPERATOR(<)
FPRNN_PACK_OPERATOR(>)
#undef FPRNN_PACK_OPERATOR

// A function of vectors, for packs of them.
#define FPRNN_PACK_FUNCTION(name)                                                  \
  template <int Count, class Element, class... Others>                             \
  FPRNN_INLINE auto name(const Pack<Count, Element>& x, const Others&... others) { \
    return each([](auto... of_one) { return name(of_one...); }, x, others...);     \
  }
FPRNN_PACK_FUNCTION(magnitude)
FPRNN_PACK_FUNCTION(square_root)
FPRNN_PACK_FUNCTION(sign_bit)
FPRNN_PACK_FUNCTION(select)

template <int Count>
FPRNN_INLINE Pack<Count> operator-(const Pack<Count>& x) {
  return each([](Vec y) { return -y; }, x);
}
template <int Count>
FPRNN_INLINE Pack<Count> at_least(const Pack<Count>& x, real low) {
  return each([low](Vec y) { return at_least(y, low); }, x);
}
template <int Count>
FPRNN_INLINE Pack<Count> at_most(const Pack<Count>& x, real high) {
  return each([high](Vec y) { return at_most(y, high); }, x);
}

// A constant of the argument's type.
FPRNN_INLINE Vec filled_like(Vec, real x) { return splat(x); }
template <int Count>
FPRNN_INLINE Pack<Count> filled_like(const Pack<Count>& like, real x) {
  return each([x](Vec) { return splat(x); }, like);
}

// for_packs is for_lanes four vectors at a time; the remainder goes through as a pack too, since a
// compiler may fuse the two forms differently.
inline constexpr int kPack = 4;
struct FullPack {
  FPRNN_INLINE Pack<kPack> load(const real* from) const {
    Pack<kPack> x;
    repeat<kPack>([&](int i) FPRNN_LAMBDA { x.v[i] = FPRNN_ISA::load(from + i * kLanes); });
    return x;
  }
  FPRNN_INLINE void store(real* to, const Pack<kPack>& x) const {
    repeat<kPack>([&](int i) FPRNN_LAMBDA { FPRNN_ISA::store(to + i * kLanes, x.v[i]); });
  }
};
struct PartialPack {
  int64_t count;
  FPRNN_INLINE int64_t lanes(int i) const {
    const int64_t left = count - i * kLanes;
    return left < 0 ? 0 : minimum(left, kLanes);
  }
  FPRNN_INLINE Pack<kPack> load(const real* from) const {
    Pack<kPack> x;
    repeat<kPack>([&](int i) FPRNN_LAMBDA { x.v[i] = load_partial(from + i * kLanes, lanes(i)); });
    return x;
  }
  FPRNN_INLINE void store(real* to, const Pack<kPack>& x) const {
    repeat<kPack>([&](int i) FPRNN_LAMBDA { store_partial(to + i * kLanes, x.v[i], lanes(i)); });
  }
};
template <class Body>
FPRNN_INLINE void for_packs(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kPack * kLanes <= count; i += kPack * kLanes) body(i, FullPack{});
  if (i < count) body(i, PartialPack{count - i});
}

}  // namespace fprnn::FPRNN_ISA
