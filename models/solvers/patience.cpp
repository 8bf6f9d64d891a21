#include <fprnn/core/vector.h>
#include <fprnn/models/solvers/patience.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fprnn {

namespace {

// The q-quantile, interpolated linearly between neighbours.
double quantile_of(std::vector<real> values, double q) {
  std::ranges::sort(values);
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const auto above = std::min(below + 1, values.size() - 1);
  // The one above may be infinite.
  if (at == static_cast<double>(below) || values[below] == values[above]) return values[below];
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace

Solution patience(const Map& f, Tensor start, const PatienceOptions& options,
                  PatienceHistory* history) {
  check_iterate(start.shape());
  check_limits(options.threshold, options.max_iterations);
  require<ValueError>(options.quantile >= 0 && options.quantile <= 1, "fixed_point",
                      "the quantile must be in [0, 1]", options.quantile);
  require<ValueError>(options.patience >= 1, "fixed_point", "the patience must be at least 1",
                      options.patience);
  const Context context = start.context();
  Iterate iterate(std::move(start));
  const int64_t B = iterate.B, T = iterate.T;
  if (B * T == 0) return {iterate.y(), int_zeros(context, {B})};
  std::vector<real> best(B, std::numeric_limits<real>::infinity()), step(B, options.step_size);
  std::vector<int> left(B, options.patience);
  int64_t l = 0;
  while (l < options.max_iterations && !(quantile_of(best, options.quantile) < options.threshold) &&
         *std::ranges::max_element(step) >= options.min_step_size) {
    ++l;
    iterate.apply(f);
    const std::vector<real> residuals = largest_of_sequences(iterate.residual()).to_vector();
    std::vector<real> steps(B * T);
    for (int64_t b = 0; b < B; ++b) std::fill_n(steps.begin() + b * T, T, step[b]);
    iterate.update(Tensor(context, {B, T}, steps));
    for (int64_t b = 0; b < B; ++b) {
      const real residual = residuals[b];
      if (residual < best[b]) {
        best[b] = residual;
        left[b] = options.patience;
      } else if (--left[b] == 0) {
        left[b] = options.patience;
        step[b] *= options.decay;
      }
    }
    if (history != nullptr) history->best_residual.push_back(best);
  }
  if (history != nullptr) history->step_size = step;
  return {iterate.y(), IntTensor(context, {B}, std::vector<int32_t>(B, as_count(l)))};
}

SequenceSolution PatienceSolver::solve(const Map& f, Tensor start) {
  PatienceOptions options = problem_.options.patience;
  options.max_iterations = problem_.options.max_iterations;
  PatienceHistory history;
  Solution solution = patience(f, std::move(start), options, &history);
  return {std::move(solution), Solver::patience, {}, 0, std::move(history)};
}

}  // namespace fprnn
