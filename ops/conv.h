// Causal depthwise convolution in time: each channel is filtered by its own few taps,
//   y_t = bias + sum_w weight_w x_{t - (W - 1) + w}
// so the last tap multiplies x_t. Before the first step x is `state`, or zero.
// Cost: one read and one write an element, 2 W flops; backward keeps x and state.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x (B, T, D), weight (D, W), optional bias (D), optional state (B, W - 1, D) -> (B, T, D).
// ShapeError: sizes do not fit, or W is 0.
Var causal_conv(const Var& x, const Var& weight, const Var& bias = {}, const Var& state = {});

// The last W - 1 inputs of [state, x], to carry into the next chunk: (B, W - 1, D).
Var conv_state(const Var& x, int64_t width, const Var& state = {});

struct ConvForward {
  const real* x;       // (B, T, D)
  const real* weight;  // (D, W)
  const real* bias;    // (D) or null
  const real* state;   // (B, W - 1, D) or null
  real* y;             // (B, T, D)
  int64_t B, T, D, W;
};
struct ConvBackward : ConvForward {  // bias and y are not read
  const real* dy = nullptr;          // (B, T, D)
  real* dx = nullptr;                // (B, T, D)
  real* dweight = nullptr;           // (D, W)
  real* dbias = nullptr;             // (D) or null
  real* dstate = nullptr;            // (B, W - 1, D) or null
};
void run(Cpu, const ConvForward&);
void run(Cpu, const ConvBackward&);
void run(Cuda, const ConvForward&);
void run(Cuda, const ConvBackward&);

}  // namespace fprnn
