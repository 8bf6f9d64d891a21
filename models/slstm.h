// The sLSTM block of the xLSTM (Beck et al., arXiv 2405.04517): a scalar memory of each channel with
// exponential gates that see the hidden state of their head, with its own norms and residuals.
//   y = LN(x),  y' = SiLU(conv(y)), or y without a convolution
//   a_i = A_i y' + R_i h_{t-1} + b_i, a_f alike;  a_z = A_z y + R_z h_{t-1} + b_z, a_o alike
//   m_t = max(ln sigmoid(a_f) + m_{t-1}, a_i)
//   i = exp(a_i - m_t),  f = exp(ln sigmoid(a_f) + m_{t-1} - m_t)
//   c_t = f . c_{t-1} + i . tanh(a_z),  n_t = f . n_{t-1} + i,  h_t = sigmoid(a_o) . c_t / n_t
//   x <- x + MHN(h)
//   [p ; r] = W_up LN(x),  out = x + W_down(GELU(p) . r)
// A and R are block diagonal, a block a head, and MHN normalises each head's channels. Parameters are
// named as in the authors' code, which keeps the weights of norms less one and has A_i under the
// name fgate and A_f under igate.
#pragma once

#include <fprnn/models/state_layer.h>
#include <fprnn/models/xlstm_modules.h>

namespace fprnn {

struct SlstmOptions {
  int64_t d_model = 64;
  int64_t heads = 4;              // divides d_model
  int64_t conv_width = 4;         // 0: no convolution
  bool ffn = true;                // whether there is a feed-forward part
  int64_t ffn_width = 0;          // its channels; 0: 1.3 d_model rounded up to a multiple of 64
  bool random_recurrent = false;  // R starts as U(+-1 / sqrt(d_model)) instead of 0
  int64_t index = 0;              // of the block, of `layers`: the forget gates start by it
  int64_t layers = 1;
  real norm_eps = kNormEps;
};

// What a block carries from one chunk of a sequence to the next.
struct SlstmState {
  Var h, c, n, m;  // (B, d_model)
  Var conv;        // (B, W - 1, d_model)
};

inline std::array<Var*, 5> parts_of(SlstmState& state) {
  return {&state.h, &state.c, &state.n, &state.m, &state.conv};
}

class Slstm : public StateLayer<SlstmState> {
 public:
  // ValueError: what check_sizes refuses; heads that do not divide d_model.
  Slstm(Module& parent, std::string name, const Init& init, const SlstmOptions& options);
  using StateLayer::forward;
  bool has_residual() const override { return true; }
  Var forward(const Var& x, SlstmState& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  Var cell(const Var& convolved, const Var& y, SlstmState& state);
  Var feed_forward(const Var& x);

  SlstmOptions options_;  // resolved
  HeadNorm norm_;
  std::unique_ptr<CausalConv> conv1d_;
  BlockLinear fgate_, igate_, zgate_, ogate_;  // A_i, A_f, A_z, A_o
  Parameter& recurrent_;                       // (H, 4 d, d): R, gates i, f, z, o
  Parameter& bias_;                            // (4 d_model)
  HeadNorm group_norm_;
  std::unique_ptr<HeadNorm> ffn_norm_;
  std::unique_ptr<Linear> ffn_up_, ffn_down_;
};

struct ModelKind;
ModelKind slstm_kind();  // models/registry.h

}  // namespace fprnn
