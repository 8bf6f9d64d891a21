// A matrix plus an outer product, token by token, as a state grows in a step:
//   out = h + u v^T
// Cost: reads and writes h once, 2 M N flops. Backward keeps u and v; its products are
// batched_matmul.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// h (..., M, N), u (..., M), v (..., N) -> (..., M, N). ShapeError: other shapes.
Var add_outer(const Var& h, const Var& u, const Var& v);

struct AddOuter {
  const real* h;  // (tokens, M, N)
  const real* u;  // (tokens, M)
  const real* v;  // (tokens, N)
  real* out;      // (tokens, M, N)
  int64_t tokens, M, N;
};
void run(Cpu, const AddOuter&);
void run(Cuda, const AddOuter&);

}  // namespace fprnn
