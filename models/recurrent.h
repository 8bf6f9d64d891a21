// LSTM and GRU, one layer of PyTorch's nn.LSTM or nn.GRU: dense, nonlinear, and one step after the
// other. With W = weight_hh_l0, W_ih = weight_ih_l0 and x_t = W_ih u_t + bias_ih_l0,
//   lstm:  [i ; f ; g ; o] = x_t + W h_{t-1} + bias_hh_l0
//          c_t = sigmoid(f) . c_{t-1} + sigmoid(i) . tanh(g),  h_t = sigmoid(o) . tanh(c_t)
//   gru:   [s_r ; s_z ; s_n] = W h_{t-1} + bias_hh_l0
//          r = sigmoid(x_r + s_r),  z = sigmoid(x_z + s_z),  n = tanh(x_n + r . s_n)
//          h_t = (1 - z) . n + z . h_{t-1}
//   out_t = h_t
#pragma once

#include <fprnn/models/state_layer.h>
#include <fprnn/ops/recurrent.h>

namespace fprnn {

struct RecurrentOptions {
  RecurrentCell cell = RecurrentCell::lstm;
  int64_t inputs = 64;  // channels of u
  int64_t hidden = 64;  // channels of h
};

// What the layer carries from one chunk of a sequence to the next.
struct RecurrentState {
  Var h;  // (B, hidden)
  Var c;  // (B, hidden); lstm alone
};

inline std::array<Var*, 2> parts_of(RecurrentState& state) { return {&state.h, &state.c}; }

class Recurrent : public StateLayer<RecurrentState> {
 public:
  // Every parameter starts as U(+-1 / sqrt(hidden)). ValueError: what check_sizes refuses.
  Recurrent(Module& parent, std::string name, const Init& init, const RecurrentOptions& options);
  using StateLayer::forward;  // (B, T, inputs) -> (B, T, hidden). UsageError: another layer's state
  Var forward(const Var& u, RecurrentState& state) override;

 private:
  std::vector<Shape> state_shapes(int64_t B) const override;
  RecurrentOptions options_;
  Parameter& weight_ih_;
  Parameter& weight_hh_;
  Parameter& bias_ih_;
  Parameter& bias_hh_;
};

struct ModelKind;
ModelKind lstm_kind();  // models/registry.h
ModelKind gru_kind();

}  // namespace fprnn
