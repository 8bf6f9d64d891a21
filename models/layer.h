// What a residual backbone stacks: a map of sequences.
#pragma once

#include <fprnn/autograd/solve_report.h>
#include <fprnn/models/module.h>

#include <span>

namespace fprnn {

// What a layer makes of its weights alone, before it sees an input, each kind its own: Layer::prepare.
struct PreparedWeights {
  virtual ~PreparedWeights() = default;
};

// What holds for one call of a layer, such as a step of training, and not for the layer.
struct Conditions {
  // Of solves: a step must not depend on solves before it, which a resumed run has not made, nor on
  // who solves best here, so the automatic solver is the sequential one; patience stops at the
  // quantile at which the authors train.
  bool training = false;
  int64_t iteration_cap = 0;  // of each solve; 0: the layer's own
  // (B, T): 0 where a step forgets its cell's state, else 1. Undefined: none does. ValueError: a
  // layer that cannot.
  Tensor state_mask = {};
  // (B, T, d): what the backbone multiplies with what a layer adds to the residual stream. Undefined:
  // with 1.
  Tensor output_mask = {};
  // Of this layer with the weights that it has now; no gradient reaches them then. Null: made anew.
  const PreparedWeights* prepared = nullptr;
  // Where a layer puts what training shall add to its loss, scalars on the tape of x; null: nowhere.
  std::vector<Var>* losses = nullptr;
};

// A cap on the iterations of a batch drawn from Gamma(shape, scale), rounded up: the paper trains
// with (4, 1). shape is a whole number. ValueError: below 1, or scale not positive.
int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng);

// State dropout, a regulariser of training: with probability `rate` a step forgets its cell's state
// (where there is one besides y), drawn anew for each token. What lasts must then be carried by
// y_{t-1}, which does not fade with time as a scan does, and so reaches beyond the length that was
// trained. Outside of training a layer may keep the mean of what dropping leaves, 1 - rate of the
// state at each step: then no state is older there than in training (FpMambaOptions::state_keep).
void draw_state_mask(double rate, Rng rng, const Tensor& mask);  // ValueError: as below
void check_state_dropout(double rate);                           // ValueError: outside [0, 1]

// Dropout (Srivastava et al., 2014): 0 with probability `rate`, else 1 / (1 - rate), for each number
// that a layer adds to the residual stream. ValueError: the rate is outside [0, 1).
void draw_output_mask(double rate, Rng rng, const Tensor& mask);
void check_dropout(double rate);

// What a layer carries from one chunk of a sequence to the next, each with the batch first; as
// values, no gradient flows through them. Empty at the start of a sequence.
using LayerState = std::vector<Tensor>;

// Refuses, in the name of `op`, what another layer or batch has left: a tensor that is there while
// others are not, or of another shape. UsageError.
void check_state(std::string_view op, std::span<const Tensor> state, std::span<const Shape> shapes);

class Layer : public Module {
 public:
  using Module::Module;
  Var forward(const Var& x, const Conditions& on = {}) {  // (B, T, d) -> (B, T, d)
    return evaluate(x, nullptr, on);
  }
  // One chunk: starts from `state` and replaces it. Chunks of one step are the O(1)-memory decoder.
  // If it throws, the state is what it was.
  Var forward(const Var& x, LayerState& state, const Conditions& on = {});
  // Whether forward and its gradient do the same each time, up to what is in tensors, and read
  // nothing back: then they may be captured once and repeated (core/graph.h).
  virtual bool capturable(const Conditions& /*on*/ = {}) const { return false; }
  // For calls with Conditions::prepared, as long as the weights stay. Null: there is nothing to make.
  virtual std::unique_ptr<PreparedWeights> prepare() { return nullptr; }
  // Whether forward contains its norms and residual, so that a backbone adds neither.
  virtual bool has_residual() const { return false; }
  // How often the last forward repeated itself, and how near that came to its aim, where it decides
  // that: for each sequence or token. Else empty.
  virtual SolveReport solve_report() const { return {}; }

 protected:
  // forward. state, for evaluate to overwrite, is null if nobody goes on from here and empty at the
  // start of a sequence. x may have no steps.
  virtual Var evaluate(const Var& x, LayerState* state, const Conditions& on) = 0;
};

}  // namespace fprnn
