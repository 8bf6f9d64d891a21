// The Mamba-2 block (Dao, Gu, arXiv 2405.21060): heads of P channels, each with one decay a step
// for all of its state.
//   [z ; xBC ; dt] = W_in u,  [x ; B ; C] = SiLU(conv(xBC))
//   dt_h = softplus(dt_h + dt_bias_h),  a_h = exp(-dt_h exp(A_log_h))
//   S_t = a_h S_{t-1} + (dt_h x_{h,t}) B_t^T,  y_{h,t} = S_t C_t + D_h x_{h,t}
//   out = W_out RMS(y . SiLU(z))
// B and C are shared by the heads of a group, and RMS normalises each group's channels.
// Parameters are named as in the authors' code.
#pragma once

#include <fprnn/models/modules.h>
#include <fprnn/models/state_layer.h>

namespace fprnn {

struct Mamba2Options {
  int64_t d_model = 64;
  int64_t d_state = 128;
  int64_t headdim = 64;  // P; divides expand * d_model
  int64_t ngroups = 1;   // divides the number of heads
  int64_t expand = 2;
  int64_t conv_width = 4;
  int64_t layers = 1;                 // W_out starts divided by sqrt(layers)
  bool rmsnorm = true;                // false: out = W_out(y . SiLU(z))
  bool norm_before_gate = false;      // out = W_out(RMS(y) . SiLU(z))
  bool channel_skip = false;          // D is one number a channel, not a head
  double dt_min = 0, dt_max = 0;      // limits of dt; dt_max 0: none above
  bool negative_eigenvalues = false;  // a = 2 exp(-dt exp(A_log)) - 1 (arXiv 2411.12537)
  real eps = kNormEps;
};

// What a Mamba-2 block carries from one chunk of a sequence to the next.
struct Mamba2State {
  Var conv;  // (B, W - 1, D + 2 G N)
  Var scan;  // (B, H, P, N)
};

inline std::array<Var*, 2> parts_of(Mamba2State& state) { return {&state.conv, &state.scan}; }

class Mamba2 : public StateLayer<Mamba2State> {
 public:
  // ValueError: what check_sizes refuses; sizes that do not divide; limits of dt that are none.
  Mamba2(Module& parent, std::string name, const Init& init, const Mamba2Options& options);
  using StateLayer::forward;
  Var forward(const Var& u, Mamba2State& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  Var normalised(const Var& x);  // (B, T, D)
  Var gated(const Var& y, const Var& z);

  Mamba2Options options_;
  int64_t inner_, heads_, convolved_;  // D, H and D + 2 G N
  Linear in_proj_;
  CausalConv conv1d_;
  Parameter& dt_bias_;
  Parameter& a_log_;
  Parameter& skip_;
  Parameter* const norm_weight_;  // null without rmsnorm
  Linear out_proj_;
};

// H = D / headdim. ValueError: headdim does not divide D, or ngroups does not divide H.
int64_t heads_of(std::string_view op, int64_t D, int64_t headdim, int64_t ngroups);
Tensor initial_decay(const Init& init, int64_t H);  // A_log: ln of numbers drawn from [1, 16)

struct ModelKind;
ModelKind mamba2_kind();  // models/registry.h

}  // namespace fprnn
