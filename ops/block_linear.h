// A block-diagonal linear map: block j of the channels by a matrix of its own,
//   y_j = W_j x_j
// Cost: 2 D i flops a token for D outputs from blocks of i inputs, backward twice that; keeps x and
// the weight. Blocks up to 16 by 16 have kernels, on a GPU one that reads x and writes y once and,
// backward, one for dx and one for the weight's sums over pieces of tokens: at 4 TB/s 0.07 ms and
// 0.14 for (16384, 2048). Else each block is one matrix product.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x (..., N i), weight (N, o, i) -> (..., N o). ShapeError: sizes that do not fit.
Var block_linear(const Var& x, const Var& weight);

struct BlockLinearForward {
  const real* x;       // (tokens, N, inputs)
  const real* weight;  // (N, outputs, inputs)
  real* y;             // (tokens, N, outputs)
  int64_t tokens, N, outputs, inputs;
};
struct BlockLinearBackward : BlockLinearForward {  // y is not read
  const real* dy = nullptr;                        // (tokens, N, outputs)
  real* dx = nullptr;                              // (tokens, N, inputs) or null
  real* dweight = nullptr;                         // (N, outputs, inputs) or null
};
bool supports(Cuda, const BlockLinearForward&);
void run(Cuda, const BlockLinearForward&);
void run(Cuda, const BlockLinearBackward&);
void run(Cpu, const BlockLinearForward&);
void run(Cpu, const BlockLinearBackward&);

}  // namespace fprnn
