// The mLSTM block of the xLSTM (Beck et al., arXiv 2405.04517): a gated matrix memory of each head,
// between projections, with its own norm and residual.
//   [x_m ; z] = W_up LN(x),  x_c = SiLU(conv(x_m))
//   q = Q x_c,  k = K x_c,  v = V x_m,  block diagonal
//   i = W_i [q ; k ; v] + b_i,  f = W_f [q ; k ; v] + b_f,  one of each a head
//   m_t = max(ln sigmoid(f) + m_{t-1}, i)
//   C_t = exp(ln sigmoid(f) + m_{t-1} - m_t) C_{t-1} + exp(i - m_t) k v^T / sqrt(d), n_t of k alike
//   h = C_t^T q / (max(|n_t . q|, exp(-m_t)) + eps)
//   out = x + W_down((MHN(h) + skip . x_c) . SiLU(z))
// MHN normalises each head's channels. Parameters are named as in the authors' code, which keeps
// the weights of norms less one.
#pragma once

#include <fprnn/models/state_layer.h>
#include <fprnn/models/xlstm_modules.h>

namespace fprnn {

struct MlstmOptions {
  int64_t d_model = 64;
  int64_t heads = 4;       // divides the inner width
  double proj_factor = 2;  // inner width / d_model, rounded up to a multiple of 64
  int64_t inner = 0;       // the inner width; 0: by proj_factor
  int64_t qkv_block = 4;   // channels of a block of Q, K and V; divides the inner width
  int64_t conv_width = 4;
  int64_t layers = 1;  // W_down starts smaller the more there are
  bool bias = false;   // of W_up, W_down, Q, K and V
  real eps = static_cast<real>(1e-6);
  real norm_eps = kNormEps;
};

// What a block carries from one chunk of a sequence to the next.
struct MlstmState {
  Var c, n, m;  // (B, H, d, d), (B, H, d), (B, H)
  Var conv;     // (B, W - 1, inner)
};

inline std::array<Var*, 4> parts_of(MlstmState& state) {
  return {&state.c, &state.n, &state.m, &state.conv};
}

class Mlstm : public StateLayer<MlstmState> {
 public:
  // ValueError: what check_sizes refuses; an inner width that heads or blocks do not divide.
  Mlstm(Module& parent, std::string name, const Init& init, const MlstmOptions& options);
  using StateLayer::forward;
  bool has_residual() const override { return true; }
  Var forward(const Var& x, MlstmState& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  Var cell(const Var& convolved, const Var& x, MlstmState& state);

  MlstmOptions options_;  // resolved
  HeadNorm norm_;
  Linear proj_up_;
  CausalConv conv1d_;
  BlockLinear q_proj_, k_proj_, v_proj_;
  Linear igate_, fgate_;
  HeadNorm out_norm_;
  Parameter& skip_;
  Linear proj_down_;
};

struct ModelKind;
ModelKind mlstm_kind();  // models/registry.h

}  // namespace fprnn
