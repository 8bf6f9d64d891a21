#include <fprnn/autograd/picard.h>
#include <fprnn/models/solvers/automatic.h>

#include <algorithm>
#include <limits>

namespace fprnn {

Solver resolved(Solver solver, const Context& context) {
  return solver == Solver::automatic && !has_crossover(context) ? Solver::sequential : solver;
}

namespace {

constexpr int64_t kFirstWait = 16, kLongestWait = 1024;

}  // namespace

int64_t SolverMemory::allowed(int64_t crossover) {
  if (crossover == 0 || needed_ < crossover || wait_ == 0) return crossover;
  --wait_;
  return 0;
}

void SolverMemory::settled_after(int64_t iterations) {
  needed_ = iterations;
  failures_ = 0;
  wait_ = kFirstWait;
}

void SolverMemory::missed(int64_t allowed) {
  needed_ = std::max(needed_, allowed);
  wait_ = failures_ < 3 ? kFirstWait << 2 * failures_ : kLongestWait;
  ++failures_;
}

SequenceSolution AutomaticSolver::solve(const Map& f, Tensor start) {
  const SolverOptions& options = problem_.options;
  require<ValueError>(options.crossover >= 0, "solver", "the crossover must not be negative",
                      options.crossover);
  const int64_t B = start.size(0), T = start.size(1);
  const int64_t crossover =
      options.crossover > 0 ? options.crossover : solver_crossover(start.context(), B, T);
  const int64_t allowed = B < 1 ? 0 : memory_.allowed(std::min(crossover, options.max_iterations));
  if (allowed > 0) {
    const ParallelSolver parallel(problem_);
    Solution found = parallel.iterate(f, start, allowed);
    // What has settled is counted no more, so all have if none came to the cap.
    const int64_t slowest = std::ranges::max(found.iterations.to_vector());
    if (slowest < allowed) {
      memory_.settled_after(slowest);
      SequenceSolution solution = parallel.brought_back(std::move(found));
      // A try that cost both solves has failed, however soon it settled.
      if (solution.strayed > 0) memory_.missed(std::numeric_limits<int64_t>::max());
      return solution;
    }
    memory_.missed(allowed);
  }
  return SequentialSolver(problem_).solve(f, std::move(start));  // over what the try has left
}

}  // namespace fprnn
