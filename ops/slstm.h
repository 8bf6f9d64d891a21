// The sLSTM cell (Beck et al., arXiv 2405.04517): a scalar memory of each channel with an
// exponential input gate, a sigmoid forget gate and a normaliser n; the gates see the hidden state of
// their own head. With s_t = R h_{t-1}, a block of R for each head and gate, and a = x_t + s_t + bias,
// gates i, f, z, o:
//   m_t = max(ln sigmoid(a_f) + m_{t-1}, a_i)
//   i = exp(a_i - m_t),   f = exp(ln sigmoid(a_f) + m_{t-1} - m_t)
//   c_t = f . c_{t-1} + i . tanh(a_z),   n_t = f . n_{t-1} + i,   h_t = sigmoid(a_o) . c_t / n_t
// Without a state h, c and n start at 0 and m at -infinity, which kSlstmNothing stands for.
// On the CPU one kernel takes some sequences of a head through all of time, with R packed once
// (slstm.md). On a GPU too, for heads of up to 128 channels; beyond, a step is products and a kernel.
// Cost: 8 D d flops a token forward, D channels in heads of d, twice that more backward. Keeps h and
// seven numbers a token and channel.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

inline constexpr real kSlstmNothing = static_cast<real>(-1e30);

struct SlstmInputs {
  Var x;          // (B, T, 4 D)
  Var weight;     // (H, 4 d, d): of each head, gate after gate; D = H d
  Var bias = {};  // (4 D) or undefined for zero
  Var h = {};     // (B, D): before the first step, as the next three; all given or none
  Var c = {}, n = {}, m = {};  // (B, D); without a past 0, 0 and kSlstmNothing
};

struct SlstmResult {
  Var h;        // (B, T, D)
  Var c, n, m;  // (B, D), after the last step
};

// ShapeError: shapes that do not fit.
SlstmResult slstm(const SlstmInputs& inputs);
// The same from other ops, a token at a time: the definition.
SlstmResult slstm_by_steps(const SlstmInputs& inputs);

// What a step leaves for its gradient, in units of D: i, f, tanh(a_z), sigmoid(a_o), the slope of
// ln sigmoid(a_f), c and n.
inline constexpr int64_t kSlstmSaved = 7;

struct SlstmForward {
  const real* x;       // (B, T, 4 D)
  const real* weight;  // (H, 4 d, d)
  const real* bias;    // (4 D) or null
  const real* h0;      // (B, D), or null with the next three
  const real* c0;      // (B, D)
  const real* n0;      // (B, D)
  const real* m0;      // (B, D)
  real* h;             // (B, T, D)
  real* c;             // (B, D)
  real* n;             // (B, D)
  real* m;             // (B, D)
  real* saved;         // (B, T, 7, D), or null where no gradient will be asked
  int64_t B, T, H, d;
};
struct SlstmBackward {
  SlstmForward forward;  // x, bias, h and m are not read
  const real* dh;        // (B, T, D)
  const real* dc;        // (B, D) or null, as the next two
  const real* dn;        // (B, D)
  const real* dm;        // (B, D)
  real* dx;              // (B, T, 4 D)
  real* dh0;             // (B, D), or null with the next three
  real* dc0;             // (B, D)
  real* dn0;             // (B, D)
  real* dm0;             // (B, D)
};
void run(Cpu, const SlstmForward&);
void run(Cpu, const SlstmBackward&);
void run(Cuda, const SlstmForward&);
void run(Cuda, const SlstmBackward&);

}  // namespace fprnn
