// Causal softmax attention, a block of queries by a block of keys at a time: no matrix of all
// queries by all keys is ever in memory (Dao et al., arXiv 2205.14135). The S keys begin with those
// of past chunks, so that query t stands at position p = S - T + t:
//   a_ts = softmax over s of (scale q_t . k_s - slope (p - s)),  max(0, p - window + 1) <= s <= p
//   y_t = sum over s of a_ts v_s
// each for one head. Forward keeps a row's maximum and sum, from which backward makes a again.
// Derivation and cost: attention.md.
//
// And the rotary position (Su et al., arXiv 2104.09864), which turns pairs of channels by angles
// that grow with the position.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

struct AttentionInputs {
  Var q;                   // (B, T, H, d)
  Var k, v;                // (B, S, H, d), S >= T
  Tensor slopes = {};      // (H): of ALiBi (arXiv 2108.12409), or undefined for 0; no gradient
  IntTensor windows = {};  // (H): how many tokens a head sees, or all where it is not positive
  real scale = 1;
};

// -> (B, T, H, d). ShapeError: shapes that do not fit. On a GPU it is attention_by_parts in double
// and for heads wider than 128.
Var attention(const AttentionInputs& inputs);
// The same from other ops, with matrices (T, S): the definition.
Var attention_by_parts(const AttentionInputs& inputs);

// x (B, T, H, d), the first token at position `first` -> the same with channels j and j + r / 2 of
// the first r turned, for j < r / 2, by the angle (first + t) base^(-2 j / r). ValueError: r odd or
// outside [0, d], first negative, base not positive.
Var rotary(const Var& x, int64_t r, double base, int64_t first = 0);
// The same from other ops: the definition.
Var rotary_by_parts(const Var& x, int64_t r, double base, int64_t first = 0);

struct AttentionForward {
  const real* q;           // (B, T, H, d)
  const real* k;           // (B, S, H, d)
  const real* v;           // (B, S, H, d)
  const real* slopes;      // (H) or null
  const int32_t* windows;  // (H) or null
  real* y;                 // (B, T, H, d)
  real* rows;              // (B, H, T, 2): the maximum of a row and 1 / sum; or null. On a GPU
                           // the maximum is times log2 e.
  int64_t B, T, S, H, d;
  real scale;
};
struct AttentionBackward : AttentionForward {
  const real* dy = nullptr;  // (B, T, H, d)
  real* dq = nullptr;        // (B, T, H, d)
  real* dk = nullptr;        // (B, S, H, d)
  real* dv = nullptr;        // (B, S, H, d)
};
struct Rotary {
  const real* x;      // (B, T, H, d)
  const real* turns;  // (T, 2, r / 2): cosines, then sines
  real* y;            // (B, T, H, d)
  int64_t B, T, H, d, r;
  bool back;  // by the negative angle
};
// Those cosines and sines, made where they are needed: on a GPU.
struct RotaryTurns {
  real* turns;
  int64_t T, r;
  double base;
  int64_t first;
};
bool supports(Cuda, const AttentionForward&);
void run(Cuda, const AttentionForward&);
void run(Cuda, const AttentionBackward&);
void run(Cuda, const Rotary&);
void run(Cuda, const RotaryTurns&);
void run(Cpu, const AttentionForward&);
void run(Cpu, const AttentionBackward&);
void run(Cpu, const Rotary&);

}  // namespace fprnn
