// One step after the other, forwards to solve and backwards for the exact adjoint
// (autograd/fixed_point.md). By the kernels of a whole sweep where the cell has them
// (models/cells/fused.h), else op by op.
#pragma once

#include <fprnn/models/solvers/solver.h>

namespace fprnn {

class SequentialSolver : public SequenceSolver {
 public:
  using SequenceSolver::SequenceSolver;
  SequenceSolution solve(const Map& f, Tensor start) override;  // start's numbers do not matter
  // The roots of all steps' equations, each with the past that y gives it.
  Tensor roots_at(const Tensor& y) const;
};

}  // namespace fprnn
