// The scan of PD-SSM (arXiv 2509.22284) over complex states h in C^N: a matrix that moves states,
// P_t, one-hot in every column, and a diagonal D_t,
//   pi_t = softmax(selection_t),  M_t = sum_k pi_tk dictionary[:, :, k]
//   column:  P_ij = [i = argmax_i' M_i'j],  h_t = P_t (D_t . h_{t-1}) + b_t
//   row:     P_ij = [j = argmax_j' M_ij'],  h_t = D_t . (P_t h_{t-1}) + b_t
// Complex numbers are real parts, then imaginary parts, along one axis of 2 N. The gradient goes
// straight through the one-hot: what reaches P is given to the softmax of M's columns (rows).
// P is a list of N indices, so a step costs O(N); what costs is M. On a GPU sizes without a kernel go
// op by op.
// Cost: 2 K N^2 flops a token forward, thrice that more backward, and 10 N for the step. Keeps the
// inputs, h and the indices; M never stands in memory but for a few tokens (pd_scan.md).
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// Which lines of P have a single one.
enum class OneHot { column, row };

struct PdScanInputs {
  Var selection;   // (B, T, K)
  Var dictionary;  // (N, N, K)
  Var d;           // (B, T, 2 N)
  Var b;           // (B, T, 2 N)
  Var h0 = {};     // (B, 2 N), before the first step, or undefined for zero
  OneHot one_hot = OneHot::column;
};

// h (B, T, 2 N). ShapeError: shapes that do not fit.
Var pd_scan(const PdScanInputs& inputs);
// The same from other ops, with M of all tokens in memory.
Var pd_scan_by_parts(const PdScanInputs& inputs);

// (N, N, K) with its first two axes swapped.
struct PdSwap {
  const real* from;
  real* to;
  int64_t N, K;
};
// From the selection to indices. The dictionary's entries are ordered by what is chosen for: slot s,
// a column (row) of P, then candidate c, a row (column).
struct PdSelect {
  const real* selection = nullptr;   // (tokens, K)
  const real* dictionary = nullptr;  // (N, N, K): slot, candidate
  real* pi = nullptr;                // (tokens, K): softmax(selection)
  int32_t* chosen = nullptr;         // (tokens, N): the candidate of each slot, the first of equals
  int64_t tokens, N, K;
};
// dP_cs = Re(conj(left_c) right_s), through both softmaxes.
struct PdSelectBackward {
  const real* pi;          // (tokens, K)
  const real* dictionary;  // (N, N, K): slot, candidate
  const real* left;        // (tokens, 2 N): of candidates
  const real* right;       // (tokens, 2 N): of slots
  real* dselection;        // (tokens, K)
  real* ddictionary;       // (N, N, K)
  int64_t tokens, N, K;
};
struct PdScanForward {
  OneHot one_hot;
  const int32_t* chosen;  // (B, T, N)
  const real* d;          // (B, T, 2 N)
  const real* b;          // (B, T, 2 N)
  const real* h0;         // (B, 2 N)
  real* h;                // (B, T, 2 N)
  int64_t B, T, N;
};
struct PdScanBackward {
  PdScanForward forward;  // b is not read
  const real* dh;         // (B, T, 2 N)
  real* dd;               // (B, T, 2 N)
  real* db;               // (B, T, 2 N): the adjoint Z of h
  real* moved;  // (B, T, 2 N): what P moves, D . h_{t-1}; in rows its adjoint, conj(D) . Z
  real* dh0;    // (B, 2 N)
};
void run(Cpu, const PdSwap&);
void run(Cpu, const PdSelect&);
void run(Cpu, const PdSelectBackward&);
void run(Cpu, const PdScanForward&);
void run(Cpu, const PdScanBackward&);
// Whether there are kernels, all of them, for N and K.
bool supports(Cuda, const PdSelect&);
void run(Cuda, const PdSwap&);
void run(Cuda, const PdSelect&);
void run(Cuda, const PdSelectBackward&);
void run(Cuda, const PdScanForward&);
void run(Cuda, const PdScanBackward&);

}  // namespace fprnn
