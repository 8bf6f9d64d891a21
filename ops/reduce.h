// Sums and means over axes, and broadcasting, which is the gradient of a sum and the reverse.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// Cost: one read an element summed. Backward keeps shapes alone.
Var sum(const Var& x);             // all elements -> a scalar
Var sum(const Var& x, int axis);   // the axis is removed; it may be negative, from the end
Var mean(const Var& x);            // ValueError: no elements
Var mean(const Var& x, int axis);  // ValueError: an empty axis

// x repeated along missing and size-1 axes up to `shape`. ShapeError: the sizes do not allow it.
Var broadcast_to(const Var& x, const Shape& shape);
// The transpose of that: x summed over the axes along which `shape` would be repeated.
Var sum_to(const Var& x, const Shape& shape);

// Sums over the middle axis, in pieces of kReducePiece whose sums are added in order.
struct SumMiddle {
  const real* x;  // (outer, middle, inner)
  real* y;        // (outer, inner)
  int64_t outer, middle, inner;
};
struct RepeatMiddle {
  const real* x;  // (outer, inner)
  real* y;        // (outer, middle, inner)
  int64_t outer, middle, inner;
};
void run(Cpu, const SumMiddle&);
void run(Cpu, const RepeatMiddle&);
void run(Cuda, const SumMiddle&);
void run(Cuda, const RepeatMiddle&);

}  // namespace fprnn
