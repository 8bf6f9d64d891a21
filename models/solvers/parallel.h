// Damped Picard iteration over all steps at once (autograd/picard.h).
#pragma once

#include <fprnn/models/solvers/sequential.h>

namespace fprnn {

class ParallelSolver : public SequenceSolver {
 public:
  using SequenceSolver::SequenceSolver;
  SequenceSolution solve(const Map& f, Tensor start) override {
    return brought_back(iterate(f, std::move(start), problem_.options.max_iterations));
  }
  // The two halves: up to so many iterations, whatever solution that leads to; and those sequences
  // solved by steps that have settled at another than the sequential solution.
  Solution iterate(const Map& f, Tensor start, int64_t max_iterations) const;
  SequenceSolution brought_back(Solution settled_at) const;
};

}  // namespace fprnn
