#include <fmt/format.h>
#include <fprnn/autograd/solve_report.h>

#include <algorithm>
#include <cstdio>

namespace fprnn {

int64_t FixedPointReport::unconverged() const {
  return std::ranges::count_if(residual, [&](real r) { return !(r <= tolerance); });
}
int64_t FixedPointReport::max_iterations() const {
  return iterations.empty() ? 0 : *std::ranges::max_element(iterations);
}
double FixedPointReport::mean_iterations() const {
  double sum = 0;
  for (const int64_t count : iterations) sum += static_cast<double>(count);
  return iterations.empty() ? 0 : sum / static_cast<double>(iterations.size());
}
real FixedPointReport::max_residual() const {
  real most = 0;
  for (const real r : residual) most = larger_or_nan(r, most);
  return most;
}

FixedPointReport SolveReport::read() const {
  if (!residual.defined()) return {};
  FixedPointReport report{{}, residual.to_vector(), tolerance};
  report.iterations.assign(report.residual.size(), 1);
  if (iterations.defined()) std::ranges::copy(iterations.to_vector(), report.iterations.begin());
  return report;
}

void act_on(const FixedPointReport& report, Unconverged action, std::string_view what) {
  const int64_t missed = report.unconverged();
  if (missed == 0 || action == Unconverged::accept) return;
  if (action == Unconverged::fail)
    throw ConvergenceError(
        "fixed_point",
        fmt::format("the {} must converge; sequences that did not, all, residual, tolerance", what),
        std::array{describe(missed), describe(static_cast<int64_t>(report.residual.size())),
                   describe(report.max_residual()), describe(report.tolerance)});
  const std::string warning = fmt::format(
      "fprnn: the {} of {} of {} sequences did not converge: residual {:.2g} > {:.2g}\n", what,
      missed, report.residual.size(), report.max_residual(), report.tolerance);
  std::fputs(warning.c_str(), stderr);  // it throws nothing where that is closed or full
}

}  // namespace fprnn
