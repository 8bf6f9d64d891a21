// The formula of each elementwise function, written once for every device: FPRNN_ISA is the
// namespace of an instruction set, or cuda. value(x) is the function and slope(kept) its
// derivative, from x, or from the result y where the formula says kSlopeTakesResult.
//
// x is a vector or a pack of them (core/vector_math.h), on a GPU one real (cuda/math.cuh). All of
// them have + - * / < >, exp, tanh, sigmoid, softplus, normal_cdf, sine_of_turns, magnitude,
// square_root, at_least, at_most, select and filled_like.
#pragma once

#include <fprnn/ops/elementwise.h>

#include <limits>
#include <type_traits>

namespace fprnn::FPRNN_ISA {

template <auto function>
struct Formula;

template <>
struct Formula<Unary::exp> {
  static constexpr bool kSlopeTakesResult = true;
  FPRNN_INLINE auto value(const auto& x) const { return exp(x); }
  FPRNN_INLINE auto slope(const auto& y) const { return y; }
};
template <>
struct Formula<Unary::sigmoid> {
  static constexpr bool kSlopeTakesResult = true;
  FPRNN_INLINE auto value(const auto& x) const { return sigmoid(x); }
  FPRNN_INLINE auto slope(const auto& y) const { return y * (1 - y); }
};
template <>
struct Formula<Unary::silu> {
  static constexpr real kMost = std::numeric_limits<real>::max();  // for infinity times 0 is NaN
  FPRNN_INLINE auto value(const auto& x) const { return at_least(x, -kMost) * sigmoid(x); }
  FPRNN_INLINE auto slope(const auto& x) const {
    const auto s = sigmoid(x);
    return s * (1 + at_most(at_least(x, -kMost), kMost) * (1 - s));
  }
};
using Silu = Formula<Unary::silu>;
template <>
struct Formula<Unary::softplus> {
  FPRNN_INLINE auto value(const auto& x) const { return softplus(x); }
  FPRNN_INLINE auto slope(const auto& x) const { return sigmoid(x); }
};
template <>
struct Formula<Unary::tanh> {
  static constexpr bool kSlopeTakesResult = true;
  FPRNN_INLINE auto value(const auto& x) const { return tanh(x); }
  // Not 1 - y * y, which a compiler fuses here and not there; and exact near 1.
  FPRNN_INLINE auto slope(const auto& y) const { return (1 - y) * (1 + y); }
};
template <>
struct Formula<Unary::relu> {
  FPRNN_INLINE auto value(const auto& x) const { return at_least(x, 0); }
  FPRNN_INLINE auto slope(const auto& x) const {
    return select(x > real(0), filled_like(x, 1), filled_like(x, 0));
  }
};
template <>
struct Formula<Unary::gelu> {
  static constexpr real kMost = std::numeric_limits<real>::max();
  static constexpr real kDensity = static_cast<real>(0.3989422804014327);  // 1 / sqrt(2 pi)
  FPRNN_INLINE auto value(const auto& x) const { return at_least(x, -kMost) * normal_cdf(x); }
  FPRNN_INLINE auto slope(const auto& x) const {
    const auto bounded = at_most(at_least(x, -kMost), kMost);
    // Of two products a compiler fuses one with the sum, here the first and there the second.
    const auto below = at_least(normal_cdf(x), 0);
    return below + kDensity * bounded * exp(real(-0.5) * bounded * bounded);
  }
};
template <>
struct Formula<Unary::square> {
  FPRNN_INLINE auto value(const auto& x) const { return x * x; }
  FPRNN_INLINE auto slope(const auto& x) const { return 2 * x; }
};
template <>
struct Formula<Unary::affine> {
  real scale, shift;
  FPRNN_INLINE auto value(const auto& x) const { return scale * x + shift; }
  FPRNN_INLINE auto slope(const auto& x) const { return filled_like(x, scale); }
};

template <>
struct Formula<Unary::turn> {  // scale sin(2 pi (x + shift))
  static constexpr real kTurn = static_cast<real>(6.283185307179586);
  real scale, shift;
  FPRNN_INLINE auto value(const auto& x) const { return scale * sine_of_turns(x + shift); }
  FPRNN_INLINE auto slope(const auto& x) const {
    return scale * kTurn * sine_of_turns(x + (shift + real(0.25)));
  }
};

template <>
struct Formula<Binary::add> {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a + b; }
};
template <>
struct Formula<Binary::sub> {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a - b; }
};
template <>
struct Formula<Binary::mul> {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a * b; }
};
template <>
struct Formula<Binary::div> {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a / b; }
};

// visit(formula) with the Formula of `function`, which is `first` or comes after it; a formula that
// has constants gets scale and shift.
template <auto first, class Name, class Visit>
FPRNN_DISPATCH void find_function(Name function, real scale, real shift, const Visit& visit) {
  if constexpr (first != Name::count) {
    constexpr Name kNext = static_cast<Name>(static_cast<int>(first) + 1);
    if (function != first)
      find_function<kNext>(function, scale, shift, visit);
    else if constexpr (std::is_empty_v<Formula<first>>)
      visit(Formula<first>{});
    else
      visit(Formula<first>{scale, shift});
  }
}
template <class Name, class Visit>
FPRNN_DISPATCH void with_function(Name function, real scale, real shift, const Visit& visit) {
  find_function<Name{}>(function, scale, shift, visit);
}

}  // namespace fprnn::FPRNN_ISA
