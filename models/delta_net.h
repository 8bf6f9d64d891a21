// DeltaNet (Yang et al., arXiv 2406.06484), Gated DeltaNet (2412.06464), DeltaProduct and its gated
// form (2502.10297): one layer, a linear memory S of each head that is corrected at its keys.
//   q = l2(SiLU(conv(W_q u))),  k_i = l2(SiLU(conv(W_k u)))_i,  v_i = SiLU(conv(W_v u))_i
//   beta_i = s sigmoid(W_b u)_i,  g = -exp(A_log) softplus(W_a u + dt_bias)
//   S <- exp(g) S, then for i = 1 .. n:  S <- S + beta_i k_i (v_i - S^T k_i)^T
//   out = W_o(rms(S^T q / sqrt(d_k)) . SiLU(W_g u)), the norm for each head
// s is 1, or 2 with negative_eigenvalues. Parameters are named as in flash-linear-attention.
#pragma once

#include <fprnn/models/modules.h>
#include <fprnn/models/state_layer.h>

namespace fprnn {

// What the numbers of queries and keys go through before their norm; elu is elu(x) + 1.
enum class KeyActivation { silu, relu, elu, identity };
// v / sqrt(|v|^2 + l2_eps), or v / (sum of v's elements).
enum class KeyNorm { l2, sum };

// The defaults are DeltaNet's.
struct DeltaNetOptions {
  int64_t d_model = 64;
  int64_t heads = 4;                  // H, of queries and keys
  int64_t head_dim = 0;               // d_k; 0: d_model / heads
  double expand_v = 1;                // d_v = expand_v d_k
  int64_t value_heads = 0;            // HV, a multiple of heads; 0: heads
  int64_t householder = 1;            // n
  bool forget_gate = false;           // else g = 0
  bool output_gate = false;           // else there is no SiLU(W_g u)
  bool negative_eigenvalues = false;  // of a sub-step: in [-1, 1] instead of [0, 1]
  int64_t conv_width = 4;             // 0: no convolutions
  bool conv_bias = false;
  KeyActivation activation = KeyActivation::silu;
  KeyNorm norm = KeyNorm::l2;
  bool beta = true;  // else beta_i = s
  real eps = kNormEps;
  real l2_eps = static_cast<real>(1e-6);
};

// What a layer carries from one chunk of a sequence to the next; the last three are the
// convolutions'.
struct DeltaNetState {
  Var memory;   // (B, HV, d_k, d_v)
  Var q, k, v;  // (B, W - 1, H d_k), (B, W - 1, n H d_k), (B, W - 1, n HV d_v)
};

inline std::array<Var*, 4> parts_of(DeltaNetState& state) {
  return {&state.memory, &state.q, &state.k, &state.v};
}

class DeltaNet : public StateLayer<DeltaNetState> {
 public:
  // ValueError: what check_sizes refuses, heads that do not divide, d_v that is not whole.
  DeltaNet(Module& parent, std::string name, const Init& init, const DeltaNetOptions& options);
  using StateLayer::forward;
  Var forward(const Var& u, DeltaNetState& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  Var convolved(Linear& projection, CausalConv* conv, const Var& u, Var& state);
  Var as_key(const Var& x, const Shape& shape);
  Var write_strength(const Var& u);
  Var log_forget(const Var& u);

  DeltaNetOptions options_;  // resolved
  int64_t d_v_;
  Tensor unit_;  // (d_k), 1 / sqrt(d_k): l2 is a norm of weight 1 / sqrt(d_k)
  Linear q_proj_, k_proj_, v_proj_;
  std::unique_ptr<Linear> b_proj_, a_proj_;
  Parameter *a_log_, *dt_bias_;  // null without the forget gate
  std::unique_ptr<CausalConv> q_conv1d_, k_conv1d_, v_conv1d_;
  std::unique_ptr<Linear> g_proj_;
  RmsNorm o_norm_;
  Linear o_proj_;
};

// A_log: ln of numbers drawn from [0, 16), kept away from 0, whose logarithm is none.
Tensor initial_log_rates(const Init& init, int64_t heads);

struct ModelKind;
ModelKind delta_net_kind();  // models/registry.h
ModelKind gated_delta_net_kind();
ModelKind delta_product_kind();

}  // namespace fprnn
