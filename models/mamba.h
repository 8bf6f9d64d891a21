// The Mamba block (Gu, Dao, arXiv 2312.00752): the rival of the fixed points, and the diagonal
// layer they build on.
//   [x ; z] = W_in u,  x = SiLU(conv(x))
//   [delta ; b ; c] = W_x x,  step = softplus(W_dt delta + b_dt),  A = -exp(A_log)
//   H_t = exp(step_t A) . H_{t-1} + (step_t . x_t) b_t^T,  y_t = H_t c_t + D . x_t
//   out = W_out(y . SiLU(z))
// Parameters are named as in the authors' code.
#pragma once

#include <fprnn/models/modules.h>
#include <fprnn/models/state_layer.h>

namespace fprnn {

struct MambaOptions {
  int64_t d_model = 64;
  int64_t d_state = 16;
  int64_t expand = 2;
  int64_t dt_rank = 0;  // 0: d_model / 16, rounded up
  int64_t conv_width = 4;
  int64_t layers = 1;  // W_out starts divided by sqrt(layers)
  // H_t = (2 exp(step_t A) - 1) . H_{t-1} + ..., eigenvalues in (-1, 1) (arXiv 2411.12537).
  bool negative_eigenvalues = false;
};

// The initial A_log (D, N), ln 1 .. ln N in every row, and the initial bias (D) of the step sizes,
// softplus^-1 of step sizes drawn log-uniformly from [0.001, 0.1].
Tensor initial_a_log(const Context& context, int64_t D, int64_t N);
Tensor initial_step_bias(const Init& init, int64_t D);

// What a Mamba block carries from one chunk of a sequence to the next.
struct MambaState {
  Var conv;  // (B, W - 1, D)
  Var scan;  // (B, D, N)
};

inline std::array<Var*, 2> parts_of(MambaState& state) { return {&state.conv, &state.scan}; }

class Mamba : public StateLayer<MambaState> {
 public:
  // ValueError: what check_sizes refuses, for expand * d_model too.
  Mamba(Module& parent, std::string name, const Init& init, const MambaOptions& options);
  using StateLayer::forward;
  Var forward(const Var& u, MambaState& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  MambaOptions options_;
  int64_t inner_;
  Linear in_proj_;
  CausalConv conv1d_;
  Linear x_proj_;
  Linear dt_proj_;
  Parameter& a_log_;
  Parameter& skip_;
  Linear out_proj_;
};

struct ModelKind;
ModelKind mamba_kind();  // models/registry.h

}  // namespace fprnn
