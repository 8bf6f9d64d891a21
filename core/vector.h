// Plain arithmetic on tensors that no gradient flows through: what the tape, the optimiser and the
// solvers need besides the ops.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/core/tensor.h>

namespace fprnn {

// A new tensor with every element `value`.
Tensor full(const Context& context, const Shape& shape, real value);
// The same with 0.
inline Tensor zeros(const Context& context, const Shape& shape) { return full(context, shape, 0); }
Tensor clone(const Tensor& x);                        // a copy that shares no memory
void copy(const Tensor& from, const Tensor& to);      // to <- from, the same number of elements
void add_in_place(const Tensor& y, const Tensor& x);  // y <- y + x, the same shape
double sum_of_squares(const Tensor& x);               // in double, over fixed pieces
real max_abs(const Tensor& x);                        // NaN if any element is; 0 if there is none

// A new tensor of zeros.
IntTensor int_zeros(const Context& context, const Shape& shape);
void raise_to(const IntTensor& y, const IntTensor& x);  // y <- the larger of both, the same shape
// The index of the largest element of each row of x (..., V), the first of equals; -1 where one is
// NaN.
IntTensor argmax(const Tensor& x);

struct Fill {
  real* out;  // (count)
  int64_t count;
  real value;
};
struct Copy {
  const real* from;  // (count)
  real* to;          // (count)
  int64_t count;
};
struct AddInPlace {
  real* y;        // (count)
  const real* x;  // (count)
  int64_t count;
};
struct SumOfSquares {
  const real* x;  // (count)
  int64_t count;
  double* partial;  // (pieces(count, kGrain)): one sum a piece
};
struct MaxAbs {
  const real* x;  // (count)
  int64_t count;
  real* partial;  // (pieces(count, kGrain)): one maximum a piece
};
struct IntFill {
  int32_t* out;  // (count)
  int64_t count;
  int32_t value;
};
struct RaiseTo {
  int32_t* y;        // (count)
  const int32_t* x;  // (count)
  int64_t count;
};
struct Argmax {
  const real* x;   // (rows, V)
  int32_t* place;  // (rows)
  int64_t rows, V;
};
void run(Cpu, const Fill&);
void run(Cpu, const IntFill&);
void run(Cpu, const RaiseTo&);
void run(Cpu, const Argmax&);
void run(Cpu, const Copy&);
void run(Cpu, const AddInPlace&);
void run(Cpu, const SumOfSquares&);
void run(Cpu, const MaxAbs&);
void run(Cuda, const Fill&);
void run(Cuda, const IntFill&);
void run(Cuda, const RaiseTo&);
void run(Cuda, const Argmax&);
void run(Cuda, const Copy&);
void run(Cuda, const AddInPlace&);
void run(Cuda, const SumOfSquares&);
void run(Cuda, const MaxAbs&);

}  // namespace fprnn
