// What the fixed-point layers share: y = f(y) over a sequence, of a mixer, a cell and a norm
// (models/fixed_point_map.h), solved in one of four ways (models/solvers/solver.h), with the
// gradients of the solution (autograd/fixed_point.h). A layer states its projections, its cell and
// what it makes of the solution.
#pragma once

#include <fprnn/autograd/fixed_point.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/models/layer.h>
#include <fprnn/models/solvers/automatic.h>

namespace fprnn {

// What a layer carries from one chunk of a sequence to the next; as values, no gradient flows
// through them. Empty at the start of a sequence.
struct FixedPointState {
  std::vector<Tensor> convolutions;  // (B, W - 1, channels) each
  Tensor y;                          // (B, D): the last step's solution
  Tensor carry;                      // the cell's
  bool wanted = true;                // whether anybody goes on from here
};

class FixedPointLayer : public Layer {
 public:
  SolverOptions solver;  // may be changed between calls, like the next
  SolverMemory memory;   // of automatic; {} forgets
  // Whether training may drop its cell's states: Conditions::state_mask, which a layer that says no
  // must refuse.
  virtual bool has_states() const { return true; }
  // What iterates over a whole sequence reads residuals back, and automatic may do so.
  bool capturable(const Conditions& on = {}) const override;
  // Of the last forward, and of the exact gradient's solve in the last backward through it, empty
  // otherwise. Reading waits until they are computed. Steps that are repeated (core/graph.h) leave
  // them as they are, but write into the same tensors.
  const SolveReport& solve_report() const { return report_; }
  FixedPointReport report() const { return report_.read(); }
  SolveReport adjoint_solve_report() const { return adjoint_ ? *adjoint_ : SolveReport{}; }
  FixedPointReport adjoint_report() const { return adjoint_solve_report().read(); }
  const Tensor& solution() const { return solution_; }  // (B, T, D)
  const PatienceHistory& patience_history() const { return history_; }
  Solver used() const { return used_; }         // as in SequenceSolution
  int64_t strayed() const { return strayed_; }  // as there

  using Layer::forward;  // its state is the one below: convolutions, y, carry
  // One chunk; starts from `state` and replaces it. A chunk of one step is the O(1)-memory decoder.
  // UsageError: the state of another layer or batch. If it throws, the state is what it was. The
  // layer must outlive the tape.
  Var forward(const Var& u, FixedPointState& state, const Conditions& on = {});

 protected:
  FixedPointLayer(Module& parent, std::string name, const SolverOptions& solver)
      : Layer(parent, std::move(name)), solver(solver) {}

  virtual FixedPointMap map() const = 0;
  virtual Var output(const Var& u, FixedPointState& state, const Conditions& on) = 0;  // forward
  // The convolutions of a state for B sequences.
  virtual std::vector<Shape> convolution_shapes(int64_t /*B*/) const { return {}; }
  // The solution (B, T, D); replaces state.y and state.carry.
  Var solve(const FixedPointInputs& inputs, FixedPointState& state, const Conditions& on);

 private:
  Var evaluate(const Var& u, LayerState* state, const Conditions& on) final;
  SolverOptions solver_on(const Conditions& on) const;

  Solver used_ = Solver::sequential;
  int64_t strayed_ = 0;
  SolveReport report_;
  std::shared_ptr<SolveReport> adjoint_;
  Tensor solution_;
  PatienceHistory history_;
};

}  // namespace fprnn
