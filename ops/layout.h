// Moving values without changing them. Backward keeps shapes (and the tokens of embedding).
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// The same elements under another shape; shares them. ShapeError: another number of elements.
Var reshape(const Var& x, const Shape& shape);

// Parts side by side along an axis. ShapeError: no parts, or other axes that differ.
Var concat(const std::vector<Var>& parts, int axis);

// The parts of these sizes along an axis, the inverse of concat. ValueError: sizes that do not add
// up.
std::vector<Var> split(const Var& x, int axis, const std::vector<int64_t>& sizes);

// Indices begin .. end - 1 of an axis, a copy; its gradient fills a tensor of x's shape, so that a
// loop over all steps belongs to split. ValueError: not 0 <= begin <= end <= size.
Var slice(const Var& x, int axis, int64_t begin, int64_t end);

// x (B, T, D) -> y (B, T, D), x one step later, with first (B, D), or zeros if it is undefined:
//   y_0 = first,  y_t = x_{t-1}
Var shift(const Var& x, const Var& first = {});

// table (V, D), tokens of any shape (...) -> the tokens' rows of the table, (..., D).
// ValueError: a token outside [0, V), with its position; on a GPU when the host next waits for it.
Var embedding(const Var& table, const IntTensor& tokens);

// x[begin ..] <- rows along the first axis, in place; both have the same other axes.
void put_rows(const Tensor& rows, const Tensor& x, int64_t begin);

// Copies `rows` rows of `length` between two layouts; either may have wider rows.
struct CopyRows {
  const real* from;  // rows from_stride apart
  real* to;          // rows to_stride apart
  int64_t rows, length, from_stride, to_stride;
};
// Several such copies together, which do not overlap.
struct CopyParts {
  static constexpr int kMost = 8;
  CopyRows parts[kMost];
  int count;
};
// Refuses tokens outside [0, V) (core/fault.h).
struct CheckTokens {
  const int32_t* tokens;  // (count)
  int64_t count, V;
};
// A token outside the table is read as token 0 until its fault is thrown.
struct GatherRows {
  const real* table;      // (V, D)
  const int32_t* tokens;  // (count)
  real* out;              // (count, D)
  int64_t count, D, V;
};
// The transpose: a row of dtable becomes the sum of its token's rows of dout, 0 where it has none.
struct ScatterAddRows {
  const real* dout;       // (count, D)
  const int32_t* tokens;  // (count)
  real* dtable;           // (V, D)
  int64_t count, D, V;
};
void run(Cpu, const CopyRows&);
void run(Cpu, const CopyParts&);
void run(Cpu, const CheckTokens&);
void run(Cpu, const GatherRows&);
void run(Cpu, const ScatterAddRows&);
void run(Cuda, const CopyRows&);
void run(Cuda, const CopyParts&);
void run(Cuda, const CheckTokens&);
void run(Cuda, const GatherRows&);
void run(Cuda, const ScatterAddRows&);

}  // namespace fprnn
