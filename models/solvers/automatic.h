// The automatic solver chooses by sizes and iteration counts, never by a clock, so the same solves
// in the same order are made in the same way.
#pragma once

#include <fprnn/models/solvers/parallel.h>

namespace fprnn {

// The same solver, but sequential for automatic where no crossover makes that choose another.
Solver resolved(Solver solver, const Context& context);

// What a layer remembers of its solves: how many iterations the last parallel one took, and when to
// look again where that was too many.
struct SolverMemory {
  // How many iterations the parallel solver may try this time; 0: the sequential one at once.
  int64_t allowed(int64_t crossover);
  // How that ended. It takes as long as a sequential solve to fail, so waits grow from one failure
  // to the next.
  void settled_after(int64_t iterations);
  void missed(int64_t allowed);
  bool operator==(const SolverMemory&) const = default;

 private:
  int64_t needed_ = 0;  // 0: not known; at least so many after a failure
  int64_t failures_ = 0;
  int64_t wait_ = 0;  // solves until it may have become fewer
};

class AutomaticSolver : public SequenceSolver {
 public:
  AutomaticSolver(const SequenceProblem& problem, SolverMemory& memory)
      : SequenceSolver(problem), memory_(memory) {}
  SequenceSolution solve(const Map& f, Tensor start) override;

 private:
  SolverMemory& memory_;
};

}  // namespace fprnn
