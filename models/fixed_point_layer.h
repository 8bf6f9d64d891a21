// What the fixed-point layers share: y = f(y) over a sequence, of a mixer, a cell and a norm
// (models/fixed_point_map.h), solved in one of four ways (models/solvers/solver.h), with the
// gradients of the solution (autograd/fixed_point.h). A layer states its projections, its cell and
// what it makes of the solution.
#pragma once

#include <fprnn/autograd/fixed_point.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/models/implicit_layer.h>

namespace fprnn {

// What a layer carries from one chunk of a sequence to the next; as values, no gradient flows
// through them. Empty at the start of a sequence.
struct FixedPointState {
  std::vector<Tensor> convolutions;  // (B, W - 1, channels) each
  Tensor y;                          // (B, D): the last step's solution
  Tensor carry;                      // the cell's
  bool wanted = true;                // whether anybody goes on from here
};

class FixedPointLayer : public ImplicitLayer {
 public:
  bool has_states() const override { return true; }
  // What iterates over a whole sequence reads residuals back, and automatic may do so.
  bool capturable(const Conditions& on = {}) const override;
  const PatienceHistory& patience_history() const { return history_; }
  std::unique_ptr<PreparedWeights> prepare() final;

  using Layer::forward;  // its state is the one below: convolutions, y, carry
  // One chunk; starts from `state` and replaces it. A chunk of one step is the O(1)-memory decoder.
  // UsageError: the state of another layer or batch. If it throws, the state is what it was. The
  // layer must outlive the tape.
  Var forward(const Var& u, FixedPointState& state, const Conditions& on = {});

 protected:
  FixedPointLayer(Module& parent, std::string name, const SolverOptions& solver)
      : ImplicitLayer(parent, std::move(name), solver) {}

  // The layer's f.
  virtual FixedPointMap map() const = 0;
  virtual Var output(const Var& u, FixedPointState& state, const Conditions& on) = 0;  // forward
  // What the weights make for all steps, on the tape of `like`. Without weight_x: the layer makes that with
  // its input each time.
  virtual Projection projection(const Var& /*like*/) { return {}; }
  // The same, or what prepare has made of it.
  Projection projection(const Var& like, const Conditions& on);
  // The convolutions of a state for B sequences.
  virtual std::vector<Shape> convolution_shapes(int64_t /*B*/) const { return {}; }
  // The solution (B, T, D); replaces state.y and state.carry.
  Var solve(const FixedPointInputs& inputs, FixedPointState& state, const Conditions& on);

 private:
  Var evaluate(const Var& u, LayerState* state, const Conditions& on) final;

  PatienceHistory history_;
};

}  // namespace fprnn
