// The delta rule (Yang et al., arXiv 2406.06484), gated (2412.06464) and with n sub-steps a token
// (2502.10297). A head's state is the matrix S (d_k, d_v) of a linear memory, which each sub-step
// corrects at the key k_i:
//   S <- exp(g_t) S, once a token;   S <- S + beta_i k_i (v_i - S^T k_i)^T, i = 1 .. n
//   o_t = scale S^T q_t, after the last sub-step
// HV value heads may share H key heads: value head j reads key head j / (HV / H), rounded down.
// S is not stored: forward keeps, if a gradient will be asked, a checkpoint every few tokens, from
// which backward recomputes (delta_rule.md).
// Cost: (4 n + 2) d_k d_v flops a token and value head forward, (12 n + 4) d_k d_v backward; with a
// gate d_k d_v and 4 d_k d_v more.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

inline constexpr int64_t kDeltaRuleChunk = 16;  // tokens between checkpoints
inline constexpr int64_t kDeltaRuleSteps = 32;  // on a GPU, sub-steps between them

struct DeltaRuleInputs {
  Var q;               // (B, T, H, d_k)
  Var k;               // (B, T, n, H, d_k)
  Var v;               // (B, T, n, HV, d_v)
  Var beta;            // (B, T, n, HV)
  Var g = {};          // (B, T, HV): logarithm of the forget gate, or undefined for 0
  Var state = {};      // (B, HV, d_k, d_v): S before the first token, or undefined for zero
  real scale = 1;      // of the output
  bool exact = false;  // as in SsdScanInputs: products are in fp32 whatever the Context's precision
};

struct DeltaRuleResult {
  Var o;      // (B, T, HV, d_v)
  Var state;  // (B, HV, d_k, d_v): S after the last token
};

// ShapeError: shapes that do not fit. On a GPU it is delta_rule_by_steps where the kernel does not
// take the sizes.
DeltaRuleResult delta_rule(const DeltaRuleInputs& inputs);
// The same from other ops, a token at a time: the definition.
DeltaRuleResult delta_rule_by_steps(const DeltaRuleInputs& inputs);

struct DeltaRuleForward {
  const real* q;         // (B, T, H, K)
  const real* k;         // (B, T, n, H, K)
  const real* v;         // (B, T, n, HV, V)
  const real* beta;      // (B, T, n, HV)
  const real* g;         // (B, T, HV) or null
  const real* entering;  // (B, HV, K, V) or null
  real* o;               // (B, T, HV, V)
  real* state;           // (B, HV, K, V)
  real* checkpoints;     // (B, chunks, HV, K, V): S before each chunk; or null
  int64_t B, T, H, HV, n, K, V;
  real scale;
  // Tokens between checkpoints: kDeltaRuleChunk, and on a GPU as many as kDeltaRuleSteps allows.
  int64_t chunk;
  bool exact = false;
};
struct DeltaRuleBackward : DeltaRuleForward {  // entering, o and state are not read
  const real* d_o = nullptr;                   // (B, T, HV, V) or null
  const real* dstate = nullptr;                // (B, HV, K, V) or null
  real* dq = nullptr;                          // (B, T, H, K)
  real* dk = nullptr;                          // (B, T, n, H, K)
  real* dv = nullptr;                          // (B, T, n, HV, V)
  real* dbeta = nullptr;                       // (B, T, n, HV)
  real* dg = nullptr;                          // (B, T, HV) or null
  real* dentering = nullptr;                   // (B, HV, K, V) or null
};
void run(Cpu, const DeltaRuleForward&);
void run(Cpu, const DeltaRuleBackward&);
// Whether there are kernels for n, d_k and d_v.
bool supports(Cuda, const DeltaRuleForward&);
void run(Cuda, const DeltaRuleForward&);
void run(Cuda, const DeltaRuleBackward&);

}  // namespace fprnn
