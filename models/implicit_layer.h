// A layer whose output is a fixed point: how it is to be solved, and how that went.
#pragma once

#include <fprnn/autograd/solve_report.h>
#include <fprnn/models/layer.h>
#include <fprnn/models/solvers/automatic.h>

namespace fprnn {

class ImplicitLayer : public Layer {
 public:
  SolverOptions solver;  // may be changed between calls, like the next
  SolverMemory memory;   // of automatic; {} forgets
  // Whether training may drop its cell's states: Conditions::state_mask, which a layer that says no
  // must refuse.
  virtual bool has_states() const { return false; }
  // Of the last forward, and of the exact gradient's solve in the last backward through it, empty
  // otherwise. Reading waits until they are computed. Steps that are repeated (core/graph.h) leave
  // them as they are, but write into the same tensors.
  SolveReport solve_report() const override { return report_; }
  FixedPointReport report() const { return report_.read(); }
  SolveReport adjoint_solve_report() const { return adjoint_ ? *adjoint_ : SolveReport{}; }
  FixedPointReport adjoint_report() const { return adjoint_solve_report().read(); }
  const Tensor& solution() const { return solution_; }  // (B, T, D)
  Solver used() const { return used_; }                 // as in SequenceSolution
  int64_t strayed() const { return strayed_; }          // as there

 protected:
  ImplicitLayer(Module& parent, std::string name, const SolverOptions& solver)
      : Layer(parent, std::move(name)), solver(solver) {}
  // The layer's options as they hold for one call.
  SolverOptions solver_on(const Conditions& on) const;

  Solver used_ = Solver::sequential;  // of the last forward, as are the next
  int64_t strayed_ = 0;               // sequences
  SolveReport report_;
  std::shared_ptr<SolveReport> adjoint_;  // null: no backward yet
  Tensor solution_;                       // (B, T, D)
};

}  // namespace fprnn
