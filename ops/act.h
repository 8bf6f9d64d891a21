// Adaptive computation time (Graves, arXiv 1603.08983) around an LSTM or a GRU cell: at each token a
// sequence repeats the cell until its halting probabilities add up to 1 - epsilon. With s^0 the
// state after the token before, for n = 1, 2, ..
//   s^n = cell(x_t + [n = 1] flag, s^{n-1}),  p_n = sigmoid(halt_weight . h^n + halt_bias)
//   N = the first n with p_1 + .. + p_n >= 1 - epsilon, at most max_steps
//   R = 1 - (p_1 + .. + p_{N-1}),  w_n = p_n for n < N,  w_N = R
//   s_t = sum_n w_n s^n,  P_t = N + R
// s is h, and (h, c) of an LSTM; x_t, its gates and the cell are ops/recurrent.h's. N counts as a
// constant in the gradient. A sequence never waits for another one of its batch.
// One kernel takes some sequences through all of time (act.md). On a GPU that is for H up to 128 in
// float; others go op by op there, and the host reads at each step who has halted.
// Cost: that of N cells a token. Keeps six or seven numbers a cell and channel.
#pragma once

#include <fprnn/ops/recurrent.h>

namespace fprnn {

struct ActInputs {
  RecurrentCell cell;
  Var x;            // (B, T, G H)
  Var flag;         // (G H): what the first step of a token adds to x
  Var weight;       // (G H, H)
  Var bias = {};    // (G H) or undefined for zero
  Var halt_weight;  // (1, H)
  Var halt_bias;    // (1)
  Var h0 = {};      // (B, H), before the first token, or undefined for zero
  Var c0 = {};      // likewise; lstm alone
  real epsilon = static_cast<real>(0.01);
  int64_t max_steps = 100;
};
struct ActResult {
  Var h, c;         // (B, T, H), after each token; c of an lstm
  Var ponder;       // (B, T): N + R
  IntTensor steps;  // (B, T): N
};

// ShapeError: shapes that do not fit. ValueError: epsilon outside [0, 1), max_steps outside 1 to
// kMaxActSteps.
inline constexpr int64_t kMaxActSteps = 1000;
ActResult act(const ActInputs& inputs);
// The same from the ops of a step.
ActResult act_by_parts(const ActInputs& inputs);

// What the cells of a block of sequences leave for their gradient. Round k has cell k of each of its
// sequences, however many steps their tokens took; a chunk has `rounds` rounds. On a GPU one block
// has all sequences, and its one chunk is (sequences, rounds, numbers of a cell).
struct ActLog {
  // The cells of some sequences that one block has.
  struct Block {
    int64_t begin, sequences;    // sequences begin .. begin + sequences - 1
    std::vector<Tensor> chunks;  // (rounds, sequences, numbers of a cell)
  };
  int64_t rounds = 0;
  std::vector<Block> blocks = {};
  std::vector<int32_t> cells = {};  // (B): how many cells each sequence made
};

struct ActForward {
  RecurrentCell cell;
  const real* x;            // (B, T, G H)
  const real* flag;         // (G H)
  const real* weight;       // (G H, H)
  const real* bias;         // (G H) or null
  const real* halt_weight;  // (H)
  const real* halt_bias;    // one element
  const real* h0;           // (B, H) or null
  const real* c0;           // (B, H) or null; lstm alone
  real* h;                  // (B, T, H)
  real* c;                  // (B, T, H); lstm alone
  real* ponder;             // (B, T)
  int32_t* steps;           // (B, T)
  ActLog* log;              // or null where no gradient will be asked
  real epsilon;
  int64_t max_steps;
  int64_t B, T, H;
};
struct ActBackward {
  ActForward forward;      // x, flag, bias and ponder are not read
  const int32_t* offsets;  // (B + 1): the numbers of each sequence's first cell, and of all cells
  const real* dh;          // (B, T, H)
  const real* dc;          // (B, T, H) or null; lstm alone
  const real* dponder;     // (B, T) or null
  real* dx;                // (B, T, G H)
  real* dflag;             // (B, G H): each sequence's part
  real* ds;      // (cells, G H + 1): of s, and of the logit of the cell before, 0 if n = 1
  real* before;  // (cells, H): h^{n-1}
  real* dh0;     // (B, H) or null
  real* dc0;     // (B, H) or null
};
void run(Cpu, const ActForward&);
void run(Cpu, const ActBackward&);
void run(Cuda, const ActForward&);
void run(Cuda, const ActBackward&);
bool supports(Cuda, const ActForward&);

}  // namespace fprnn
