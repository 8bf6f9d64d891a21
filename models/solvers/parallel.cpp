#include <fprnn/autograd/picard.h>
#include <fprnn/models/solvers/parallel.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

namespace {

// Nearer than so many tolerances, relative, the root of a step and a solution within the tolerance
// count as one.
constexpr real kRootsApart = 10;

}  // namespace

Solution ParallelSolver::iterate(const Map& f, Tensor start, int64_t max_iterations) const {
  return picard(f, std::move(start),
                {.tolerance = problem_.options.tolerance,
                 .max_iterations = max_iterations,
                 .damping = problem_.options.damping});
}

SequenceSolution ParallelSolver::brought_back(Solution settled_at) const {
  SequenceSolution found{std::move(settled_at), Solver::parallel};
  const Tensor& y = found.y;
  if (y.elements() == 0) return found;
  const std::vector<int32_t> settled = found.settled.to_vector();
  std::vector<int64_t> strayed;  // those that have settled, until their roots are known
  for (int64_t b = 0; b < y.size(0); ++b)
    if (settled[b] == y.size(1)) strayed.push_back(b);
  if (strayed.empty()) return found;
  SequenceProblem unrecorded = problem_;
  unrecorded.recorded = false;
  SequentialSolver sequential(unrecorded);
  const std::vector<real> distance = largest_residuals(sequential.roots_at(y), y).to_vector();
  const real apart = kRootsApart * std::max(problem_.options.tolerance, kResidualRounding);
  std::erase_if(strayed, [&](int64_t b) { return distance[b] <= apart; });
  if (strayed.empty()) return found;
  const Solution by_steps = sequential.solve({}, Tensor(y.context(), y.shape()));
  std::vector<int32_t> iterations = found.iterations.to_vector();
  const std::vector<int32_t> counts = by_steps.iterations.to_vector();
  for (const int64_t b : strayed) {
    put_rows(slice(by_steps.y, 0, b, b + 1).value(), y, b);
    iterations[b] = counts[b];
  }
  found.iterations = IntTensor(y.context(), {y.size(0)}, iterations);
  found.strayed = static_cast<int64_t>(strayed.size());
  return found;
}

}  // namespace fprnn
