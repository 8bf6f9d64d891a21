// Functions of one element, and sums, differences, products and quotients of two tensors.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x of any shape -> the same shape. Cost: one read and one write an element; backward two reads and
// one write, keeping x or the result, whichever the slope is shorter in.
Var exp(const Var& x);
Var sigmoid(const Var& x);   // 1 / (1 + e^-x)
Var silu(const Var& x);      // x sigmoid(x)
Var softplus(const Var& x);  // log(1 + e^x)
Var tanh(const Var& x);
Var square(const Var& x);
Var affine(const Var& x, real scale, real shift);  // scale x + shift

// Elementwise, with broadcasting as in NumPy: shapes are aligned at the last axis, and missing axes and
// axes of size 1 are repeated. An operand whose shape is the end of the other's is not copied for
// that.
// ShapeError: sizes differ and neither is 1.
Var add(const Var& a, const Var& b);
Var sub(const Var& a, const Var& b);
Var mul(const Var& a, const Var& b);
Var div(const Var& a, const Var& b);

enum class Unary { exp, sigmoid, silu, softplus, tanh, square, affine };
enum class Binary { add, sub, mul, div };

struct UnaryForward {
  Unary function;
  const real* x;  // (count)
  real* y;        // (count)
  int64_t count;
  real scale = 1, shift = 0;  // of affine
};
struct UnaryBackward {
  Unary function;
  const real* kept;  // (count): y where slope_uses_result(function), else x
  const real* dy;    // (count)
  real* dx;          // (count)
  int64_t count;
  real scale = 1;  // of affine
};
struct BinaryForward {
  Binary function;
  const real* a;  // (count)
  const real* b;  // (period), repeated count / period times
  real* y;        // (count)
  int64_t count, period;
};
bool slope_uses_result(Unary function);
void run(Cpu, const UnaryForward&);
void run(Cpu, const UnaryBackward&);
void run(Cpu, const BinaryForward&);
void run(Cuda, const UnaryForward&);
void run(Cuda, const UnaryBackward&);
void run(Cuda, const BinaryForward&);

}  // namespace fprnn
