// The mLSTM cell (Beck et al., arXiv 2405.04517): a matrix memory C (d, d) of each head with an
// exponential input gate and a sigmoid forget gate, which a stabiliser m keeps within range:
//   m_t = max(ln sigmoid(f_t) + m_{t-1}, i_t)
//   F_t = exp(ln sigmoid(f_t) + m_{t-1} - m_t),   I_t = exp(i_t - m_t)
//   C_t = F_t C_{t-1} + I_t k_t v_t^T / sqrt(d),   n_t = F_t n_{t-1} + I_t k_t / sqrt(d)
//   h_t = C_t^T q_t / (max(|n_t . q_t|, exp(-m_t)) + eps)
// Without a state C and n start at 0 and m at -infinity, which kMlstmNothing stands for.
// Long sequences go in chunks, whose work is matrix products, and on the CPU a few steps one by one
// (mlstm.md). On a GPU heads that the kernel does not take go as mlstm_by_steps.
// Cost forward, a token and head: 5 d^2 flops, or 4 d^2 + 4 Q d in chunks of Q steps. Where a
// gradient will be asked, the state before every chunk is kept.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// Steps of a chunk.
inline constexpr int64_t kMlstmChunk = 64;
inline constexpr int kMlstmGpuWidth = 128;  // the widest heads of the GPU's kernel
inline constexpr real kMlstmNothing = static_cast<real>(-1e30);

struct MlstmInputs {
  Var q, k, v;       // (B, T, H, d)
  Var igate, fgate;  // (B, T, H), before their functions
  Var c = {};        // (B, H, d, d): C before the first step; c, n and m all given or none
  Var n = {};        // (B, H, d)
  Var m = {};        // (B, H)
  real eps = static_cast<real>(1e-6);
};

struct MlstmResult {
  Var h;        // (B, T, H, d)
  Var c, n, m;  // after the last step
};

// ShapeError: shapes that do not fit. ValueError: eps negative.
MlstmResult mlstm(const MlstmInputs& inputs);
// The same from other ops, a token at a time: the definition.
MlstmResult mlstm_by_steps(const MlstmInputs& inputs);

struct MlstmForward {
  const real* q;      // (B, T, H, d)
  const real* k;      // (B, T, H, d)
  const real* v;      // (B, T, H, d)
  const real* igate;  // (B, T, H)
  const real* fgate;  // (B, T, H)
  const real* c0;     // (B, H, d, d), or null with the next two
  const real* n0;     // (B, H, d)
  const real* m0;     // (B, H)
  real* h;            // (B, T, H, d)
  real* c;            // (B, H, d, d)
  real* n;            // (B, H, d)
  real* m;            // (B, H)
  real* steps;        // (2, B, T, H): m_t and n_t . q_t; or null with the next
  real* checkpoints;  // (B, H, chunks, d + 1, d): C and n before each chunk, unused for the first
  int64_t B, T, H, d;
  real eps;
};
struct MlstmBackward : MlstmForward {
  const real* dh = nullptr;  // (B, T, H, d)
  const real* dc = nullptr;  // (B, H, d, d) or null
  const real* dn = nullptr;  // (B, H, d) or null
  const real* dm = nullptr;  // (B, H) or null
  real* dq = nullptr;        // (B, T, H, d)
  real* dk = nullptr;        // (B, T, H, d)
  real* dv = nullptr;        // (B, T, H, d)
  real* digate = nullptr;    // (B, T, H)
  real* dfgate = nullptr;    // (B, T, H)
  real* dc0 = nullptr;       // (B, H, d, d), or null with the next two
  real* dn0 = nullptr;       // (B, H, d)
  real* dm0 = nullptr;       // (B, H)
};
void run(Cpu, const MlstmForward&);
void run(Cpu, const MlstmBackward&);
// Whether there are kernels for d.
bool supports(Cuda, const MlstmForward&);
void run(Cuda, const MlstmForward&);
void run(Cuda, const MlstmBackward&);

}  // namespace fprnn
