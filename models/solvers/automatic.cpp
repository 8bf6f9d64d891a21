#include <fprnn/models/solvers/automatic.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fprnn {

// Microseconds, but only their ratio means anything: fitted to the crossovers in
// docs/gpu/report.md, "Which solver", all 13 within 14 %. Measured at d_model 128,
// Householder r = 1 and tf32 alone. Width, rank and mixer change the cost of both solvers; there
// the same numbers are a guess, and who has measured better ones sets SolverOptions::crossover.
//
// On a CPU both solvers take time as B T, and a sequential solve as much as 5 to 19 iterations
// (bench layer, one thread, d_model 32 to 128, T 17 to 1024), when few maps need less than a dozen:
// there is too little to win.
int64_t solver_crossover(DeviceKind device, int64_t B, int64_t T) {
  if (device != DeviceKind::cuda || B < 1 || T <= 1) return 0;
  const auto b = static_cast<double>(B), t = static_cast<double>(T);
  const double step = 19.3 + 1.8 * std::log2(b);
  const double iteration = 45 + 0.23 * t + 0.008 * b * t;
  const auto crossover = static_cast<int64_t>(step * t / iteration);
  // A map that halves the distance takes 13 iterations to 1e-4; below this it is not worth trying.
  constexpr int64_t kFewest = 12;
  return crossover >= kFewest ? crossover : 0;
}

Solver resolved(Solver solver, const Context& context) {
  const bool idle = solver == Solver::automatic && context.device() == DeviceKind::cpu;
  return idle ? Solver::sequential : solver;
}

int64_t SolverMemory::allowed(int64_t crossover) {
  if (crossover == 0 || needed_ < crossover || wait_ == 0) return crossover;
  --wait_;
  return 0;
}

namespace {

constexpr int64_t kFirstWait = 16, kLongestWait = 1024;

}  // namespace

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

Solution AutomaticSolver::solve(const Map& f, Tensor start) {
  const SolverOptions& options = problem_.options;
  require<ValueError>(options.crossover >= 0, "solver", "the crossover must not be negative",
                      options.crossover);
  const int64_t B = start.size(0), T = start.size(1);
  const int64_t crossover =
      options.crossover > 0 ? options.crossover : solver_crossover(start.context().device(), B, T);
  const int64_t allowed = B < 1 ? 0 : memory_.allowed(std::min(crossover, options.max_iterations));
  if (allowed > 0) {
    Solution found = parallel_.iterate(f, start, allowed);
    // What has settled is counted no more, so all have if none came to the cap.
    const int64_t slowest = std::ranges::max(found.iterations.to_vector());
    if (slowest < allowed) {
      memory_.settled_after(slowest);
      used_ = Solver::parallel;
      found = parallel_.brought_back(std::move(found));
      // A try that cost both solves has failed, however soon it settled.
      if (parallel_.strayed() > 0) memory_.missed(std::numeric_limits<int64_t>::max());
      return found;
    }
    memory_.missed(allowed);
  }
  used_ = Solver::sequential;
  return sequential_.solve(f, std::move(start));  // over what the try has left
}

}  // namespace fprnn
