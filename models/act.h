// Adaptive computation time (Graves, arXiv 1603.08983) around an LSTM or a GRU cell: the layer
// decides at every token how often it repeats its cell (ops/act.h). With s_{t-1} the mean-field
// state and W_ih's last column for the flag,
//   s^n = cell([u_t ; n = 1], s^{n-1}),  p_n = sigmoid(halt h^n),  n = 1 .. N
//   s_t = sum_n w_n s^n,  P_t = N + R,  out_t = h_t
// In training tau times the mean of P over all tokens is added to the loss, which is a mean over
// tokens too.
#pragma once

#include <fprnn/models/layer.h>
#include <fprnn/models/modules.h>
#include <fprnn/ops/act.h>

namespace fprnn {

struct ActOptions {
  RecurrentCell cell = RecurrentCell::lstm;
  int64_t inputs = 64;          // channels of u
  int64_t hidden = 64;          // channels of h
  double epsilon = 0.01;        // a token halts where its probabilities reach 1 - epsilon
  int64_t max_steps = 100;      // cells of a token
  double ponder_weight = 1e-3;  // tau
};

// What the layer carries from one chunk of a sequence to the next.
struct ActState {
  Var h;  // (B, hidden)
  Var c;  // (B, hidden); lstm alone
};

class Act : public Layer {
 public:
  // ValueError: what check_sizes refuses; epsilon outside [0, 1), max_steps outside 1 to
  // kMaxActSteps, or a ponder weight that is negative or not finite.
  Act(Module& parent, std::string name, const Init& init, const ActOptions& options);
  using Layer::forward;  // (B, T, inputs) -> (B, T, hidden). UsageError: another layer's state
  // The same with gradients through the state, which may be empty at the start of a sequence.
  ActResult forward(const Var& u, ActState& state);
  // N of each token of the last forward, as iterations.
  SolveReport solve_report() const override { return report_; }

 protected:
  Var evaluate(const Var& u, LayerState* state, const Conditions& on) override;

 private:
  ActOptions options_;
  Parameter& weight_ih_;
  Parameter& weight_hh_;
  Parameter& bias_ih_;
  Parameter& bias_hh_;
  Linear halt_;
  SolveReport report_;
};

struct ModelKind;
ModelKind act_kind();  // models/registry.h

}  // namespace fprnn
