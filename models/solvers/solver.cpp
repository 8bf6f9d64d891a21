#include <fprnn/models/solvers/automatic.h>
#include <fprnn/models/solvers/patience.h>

#include <cmath>
#include <limits>

namespace fprnn {

Solver solver_named(std::string_view name) {
  for (const Solver solver :
       {Solver::parallel, Solver::sequential, Solver::patience, Solver::automatic})
    if (name == name_of(solver)) return solver;
  throw ValueError("solver", "solvers are auto, parallel, sequential and patience",
                   std::array{describe(name)});
}

std::string_view name_of(Solver solver) {
  return solver == Solver::parallel     ? "parallel"
         : solver == Solver::sequential ? "sequential"
         : solver == Solver::patience   ? "patience"
                                        : "auto";
}

namespace {

void check_tolerance(real tolerance) {
  require<ValueError>(tolerance >= 0 && std::isfinite(tolerance), "solver",
                      "the tolerance must be finite and not negative", tolerance);
}
// Iterations are counted in 32 bits.
void check_cap(int64_t max_iterations) {
  require<ValueError>(max_iterations >= 1 && max_iterations <= std::numeric_limits<int32_t>::max(),
                      "solver", "max_iterations must be 1 to 2^31 - 1", max_iterations);
}

}  // namespace

void check(const SolverOptions& options) {
  check_tolerance(options.tolerance);
  check_cap(options.max_iterations);
  require<ValueError>(options.damping > 0 && options.damping <= 1, "solver",
                      "the damping must be in (0, 1]", options.damping);
  require<ValueError>(options.crossover >= 0, "solver", "the crossover must not be negative",
                      options.crossover);
  const PatienceOptions& patience = options.patience;
  check_tolerance(patience.threshold);
  require<ValueError>(patience.quantile >= 0 && patience.quantile <= 1, "solver",
                      "the quantile must be in [0, 1]", patience.quantile);
  require<ValueError>(patience.patience >= 1, "solver", "the patience must be at least 1",
                      patience.patience);
  const GradientRule& gradient = options.gradient;
  check_tolerance(gradient.tolerance);
  check_cap(gradient.max_iterations);
  require<ValueError>(gradient.terms >= 0, "solver", "the terms of a gradient must not be negative",
                      gradient.terms);
}

std::unique_ptr<SequenceSolver> make_solver(const SequenceProblem& problem, SolverMemory& memory) {
  const Solver solver = problem.options.solver;
  const bool one_step = problem.in.x.size(1) <= 1;
  if (solver == Solver::patience) return std::make_unique<PatienceSolver>(problem);
  if (solver == Solver::parallel && !one_step) return std::make_unique<ParallelSolver>(problem);
  if (solver == Solver::automatic && !one_step)
    return std::make_unique<AutomaticSolver>(problem, memory);
  return std::make_unique<SequentialSolver>(problem);
}

}  // namespace fprnn
