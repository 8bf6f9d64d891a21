#include <fprnn/models/solvers/automatic.h>

namespace fprnn {

namespace {

class PatienceSolver : public SequenceSolver {
 public:
  PatienceSolver(const SequenceProblem& problem, PatienceHistory& history)
      : options_(problem.options.patience), history_(history) {
    options_.max_iterations = problem.options.max_iterations;
  }
  Solution solve(const Map& f, Tensor start) override {
    return patience(f, std::move(start), options_, &history_);
  }
  Solver used() const override { return Solver::patience; }

 private:
  PatienceOptions options_;
  PatienceHistory& history_;
};

}  // namespace

std::unique_ptr<SequenceSolver> make_solver(const SequenceProblem& problem, SolverMemory& memory,
                                            PatienceHistory& history) {
  const bool one_step = problem.in.x.size(1) <= 1;
  switch (problem.options.solver) {
    case Solver::patience:
      return std::make_unique<PatienceSolver>(problem, history);
    case Solver::parallel:
      if (!one_step) return std::make_unique<ParallelSolver>(problem);
      break;
    case Solver::automatic:
      if (!one_step) return std::make_unique<AutomaticSolver>(problem, memory);
      break;
    case Solver::sequential:
      break;
  }
  return std::make_unique<SequentialSolver>(problem);
}

}  // namespace fprnn
