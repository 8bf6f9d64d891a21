// The LSTM (Hochreiter, Schmidhuber 1997) and the GRU (Cho et al., arXiv 1406.1078) over a whole
// sequence, as PyTorch has them. x_t holds what the input adds to every gate, W_ih u_t + b_ih, one
// product for all t; s_t = W h_{t-1} + bias is the recurrent part.
//   lstm, gates i, f, g, o:  a_t = x_t + s_t
//     c_t = sigmoid(a_f) . c_{t-1} + sigmoid(a_i) . tanh(a_g),   h_t = sigmoid(a_o) . tanh(c_t)
//   gru, gates r, z, n:  r = sigmoid(x_r + s_r),  z = sigmoid(x_z + s_z),  n = tanh(x_n + r . s_n)
//     h_t = (1 - z) . n + z . h_{t-1}
// On the CPU one kernel takes some sequences through all of time, with W packed once (recurrent.md).
// On a GPU too, for H up to 128; beyond, a step is a product and a kernel.
// Cost, with G gates: 2 G H^2 flops a token forward, twice that more backward. Keeps h, c and four
// numbers a token and channel.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

struct LstmInputs {
  Var x;          // (B, T, 4 H)
  Var weight;     // (4 H, H)
  Var bias = {};  // (4 H) or undefined for zero
  Var h0 = {};    // (B, H), before the first step, or undefined for zero
  Var c0 = {};    // likewise
};
struct LstmResult {
  Var h, c;  // (B, T, H), after each step
};
struct GruInputs {
  Var x;          // (B, T, 3 H)
  Var weight;     // (3 H, H)
  Var bias = {};  // (3 H) or undefined for zero
  Var h0 = {};    // (B, H), before the first step, or undefined for zero
};

// ShapeError: shapes that do not fit.
LstmResult lstm(const LstmInputs& inputs);
Var gru(const GruInputs& inputs);  // h (B, T, H)

// The same from the ops of a step.
LstmResult lstm_by_parts(const LstmInputs& inputs);
Var gru_by_parts(const GruInputs& inputs);

// Which recurrence.
enum class RecurrentCell { lstm, gru };
// How many gates a cell has: G.
constexpr int64_t gates_of(RecurrentCell cell) { return cell == RecurrentCell::lstm ? 4 : 3; }
// One step by parts, of x_t and s_t (B, G H).
struct RecurrentStep {
  Var h, c;  // (B, H); c of an lstm
};
RecurrentStep recurrent_step(RecurrentCell cell, const Var& x, const Var& s,
                             const RecurrentStep& before);

// What a step leaves for its gradient, in units of H: i, f, g, o or r, z, n, s_n.
inline constexpr int64_t kRecurrentSaved = 4;

struct RecurrentForward {
  RecurrentCell cell;
  const real* x;       // (B, T, G H)
  const real* weight;  // (G H, H)
  const real* bias;    // (G H) or null
  const real* h0;      // (B, H) or null
  const real* c0;      // (B, H) or null; lstm alone
  real* h;             // (B, T, H)
  real* c;             // (B, T, H); lstm alone
  real* saved;         // (B, T, 4 H), or null where no gradient will be asked
  int64_t B, T, H;
};
struct RecurrentBackward {
  RecurrentForward forward;  // x and bias are not read
  const real* dh;            // (B, T, H)
  const real* dc;            // (B, T, H) or null; lstm alone
  real* dx;                  // (B, T, G H)
  real* ds;                  // (B, T, G H); gru alone, for the lstm's is dx
  real* dh0;                 // (B, H) or null
  real* dc0;                 // (B, H) or null
};
void run(Cpu, const RecurrentForward&);
void run(Cpu, const RecurrentBackward&);
void run(Cuda, const RecurrentForward&);
void run(Cuda, const RecurrentBackward&);

}  // namespace fprnn
