// Each elementwise function and its slope, written once for every device: FPRNN_ISA is the namespace of an
// instruction set, where Vec is its vector and exp, sigmoid ... are those of core/vector_math.h, or
// cuda, where Vec is one real. value(x) is the function; slope(kept) its derivative from what
// backward keeps.
#pragma once

#include <fprnn/ops/elementwise.h>

#include <limits>

namespace fprnn::FPRNN_ISA {

struct Exp {
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return exp(x);
  }
  template <class V>
  FPRNN_INLINE V slope(const V& y) const {
    return y;
  }
};
struct Sigmoid {
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return sigmoid(x);
  }
  template <class V>
  FPRNN_INLINE V slope(const V& y) const {
    return y * (1 - y);
  }
};
struct Silu {
  static constexpr real kMost = std::numeric_limits<real>::max();  // for infinity times 0 is NaN
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return at_least(x, -kMost) * sigmoid(x);
  }
  template <class V>
  FPRNN_INLINE V slope(const V& x) const {
    const V s = sigmoid(x);
    return s * (1 + at_most(at_least(x, -kMost), kMost) * (1 - s));
  }
};
struct Softplus {
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return softplus(x);
  }
  template <class V>
  FPRNN_INLINE V slope(const V& x) const {
    return sigmoid(x);
  }
};
struct Tanh {
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return tanh(x);
  }
  template <class V>
  FPRNN_INLINE V slope(const V& y) const {
    return 1 - y * y;
  }
};
struct Square {
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return x * x;
  }
  template <class V>
  FPRNN_INLINE V slope(const V& x) const {
    return 2 * x;
  }
};
struct Affine {
  real scale, shift;
  template <class V>
  FPRNN_INLINE V value(const V& x) const {
    return scale * x + shift;
  }
  template <class V>
  FPRNN_INLINE V slope(const V& x) const {
    return filled_like(x, scale);
  }
};

// visit(function) with the struct above that `function` names.
template <class Visit>
FPRNN_DISPATCH void with_function(Unary function, real scale, real shift, const Visit& visit) {
  switch (function) {
    case Unary::exp:
      return visit(Exp{});
    case Unary::sigmoid:
      return visit(Sigmoid{});
    case Unary::silu:
      return visit(Silu{});
    case Unary::softplus:
      return visit(Softplus{});
    case Unary::tanh:
      return visit(Tanh{});
    case Unary::square:
      return visit(Square{});
    case Unary::affine:
      return visit(Affine{scale, shift});
  }
}

struct Add {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a + b; }
};
struct Sub {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a - b; }
};
struct Mul {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a * b; }
};
struct Div {
  FPRNN_INLINE Vec value(Vec a, Vec b) const { return a / b; }
};

template <class Visit>
FPRNN_DISPATCH void with_function(Binary function, const Visit& visit) {
  switch (function) {
    case Binary::add:
      return visit(Add{});
    case Binary::sub:
      return visit(Sub{});
    case Binary::mul:
      return visit(Mul{});
    case Binary::div:
      return visit(Div{});
  }
}

}  // namespace fprnn::FPRNN_ISA
