// Functions of one element, and sums, differences, products and quotients of two tensors.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// Functions of one element and of two. A new one of one element takes a name in Unary, a line below
// and a Formula in ops/elementwise_functions.h. `count` is how many there are.
enum class Unary { exp, sigmoid, silu, softplus, tanh, relu, gelu, square, affine, turn, count };
enum class Binary { add, sub, mul, div, count };

// x of any shape -> the function of every element, of the same shape. scale and shift are the
// constants of a formula that has some. Cost: one read and one write an element; backward two reads
// and one write, keeping x or the result, whichever the slope is shorter in.
Var unary(std::string_view op, Unary function, const Var& x, real scale = 1, real shift = 0);

inline Var exp(const Var& x) { return unary("exp", Unary::exp, x); }              // e^x
inline Var sigmoid(const Var& x) { return unary("sigmoid", Unary::sigmoid, x); }  // 1 / (1 + e^-x)
inline Var silu(const Var& x) { return unary("silu", Unary::silu, x); }           // x sigmoid(x)
inline Var softplus(const Var& x) { return unary("softplus", Unary::softplus, x); }  // log(1 + e^x)
inline Var tanh(const Var& x) { return unary("tanh", Unary::tanh, x); }              // tanh x
inline Var relu(const Var& x) { return unary("relu", Unary::relu, x); }              // max(x, 0)
// x Phi(x), with the distribution function Phi of the normal distribution.
inline Var gelu(const Var& x) { return unary("gelu", Unary::gelu, x); }
inline Var square(const Var& x) { return unary("square", Unary::square, x); }  // x^2
inline Var affine(const Var& x, real scale, real shift) {                      // scale x + shift
  return unary("affine", Unary::affine, x, scale, shift);
}

// sin(2 pi x) and cos(2 pi x)
inline Var sin_turns(const Var& x) { return unary("sin_turns", Unary::turn, x, 1, 0); }
inline Var cos_turns(const Var& x) {
  return unary("cos_turns", Unary::turn, x, 1, static_cast<real>(0.25));
}

// Elementwise, with broadcasting as in NumPy: shapes are aligned at the last axis, and missing axes
// and axes of size 1 are repeated. An operand whose shape is the end of the other's is not copied
// for that.
// ShapeError: sizes differ and neither is 1.
Var add(const Var& a, const Var& b);
Var sub(const Var& a, const Var& b);
Var mul(const Var& a, const Var& b);
Var div(const Var& a, const Var& b);

struct UnaryForward {
  Unary function;
  const real* x;  // (count)
  real* y;        // (count)
  int64_t count;
  real scale = 1, shift = 0;  // the formula's constants
};
struct UnaryBackward : UnaryForward {  // x and y are not read
  const real* kept = nullptr;          // (count): what the formula's slope takes, y or x
  const real* dy = nullptr;            // (count)
  real* dx = nullptr;                  // (count)
};
struct BinaryForward {
  Binary function;
  const real* a;  // (count)
  const real* b;  // (period), repeated count / period times
  real* y;        // (count)
  int64_t count, period;
};
void run(Cpu, const UnaryForward&);
void run(Cpu, const UnaryBackward&);
void run(Cpu, const BinaryForward&);
void run(Cuda, const UnaryForward&);
void run(Cuda, const UnaryBackward&);
void run(Cuda, const BinaryForward&);

}  // namespace fprnn
