// Damped Picard iteration over all steps at once (autograd/picard.h).
#pragma once

#include <fprnn/models/solvers/sequential.h>

namespace fprnn {

class ParallelSolver : public SequenceSolver {
 public:
  explicit ParallelSolver(const SequenceProblem& problem) : problem_(problem) {}
  Solution solve(const Map& f, Tensor start) override {
    return brought_back(iterate(f, std::move(start), problem_.options.max_iterations));
  }
  Solver used() const override { return Solver::parallel; }
  int64_t strayed() const override { return strayed_; }

  // The two halves: up to so many iterations, whatever solution that leads to; and those sequences
  // solved by steps that have settled at another than the sequential solution.
  Solution iterate(const Map& f, Tensor start, int64_t max_iterations) const;
  Solution brought_back(Solution found);

 private:
  const SequenceProblem& problem_;
  int64_t strayed_ = 0;
};

}  // namespace fprnn
