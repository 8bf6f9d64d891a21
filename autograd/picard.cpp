#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fprnn {

namespace {

// Of each sequence, on the device.
struct Progress {
  IntTensor settled, iterations, since;  // (B)
  Tensor best, damping;                  // (B)
  Tensor step;                           // (B, T)

  Progress(const Context& context, int64_t B, int64_t T, real damping)
      : settled(int_zeros(context, {B})),
        iterations(int_zeros(context, {B})),
        since(int_zeros(context, {B})),
        best(full(context, {B}, std::numeric_limits<real>::infinity())),
        damping(full(context, {B}, damping)),
        step(context, {B, T}) {}
  bool all_settled(int64_t T) const {
    return std::ranges::all_of(settled.to_vector(), [T](int32_t count) { return count == T; });
  }
};

// How often the host looks whether all have settled: on a GPU it must wait for that.
int64_t iterations_between_looks(const Context& context) {
  return context.device() == DeviceKind::cuda ? 4 : 1;
}

}  // namespace

// Microseconds, but only their ratio means anything: fitted to the crossovers in
// docs/gpu/report.md, "Which solver", all 13 within 14 %. Measured at d_model 128,
// Householder r = 1 and tf32 alone. Width, rank and mixer change the cost of both solvers; there
// the same numbers are a guess, and who has measured better ones gives a solver another crossover.
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

Solution picard(const Map& f, Tensor start, const PicardOptions& options) {
  check_iterate(start.shape());
  check_limits(options.tolerance, options.max_iterations);
  require<ValueError>(options.damping > 0 && options.damping <= 1, "fixed_point",
                      "the damping must be in (0, 1]", options.damping);
  const Context context = start.context();
  Iterate iterate(std::move(start));
  const int64_t B = iterate.B, T = iterate.T;
  require(T <= INT32_MAX, "fixed_point", "T must be below 2^31", T);
  const Progress progress(context, B, T, options.damping);
  const int64_t between = iterations_between_looks(context);
  for (int64_t l = 1; l <= options.max_iterations && B * T > 0; ++l) {
    iterate.apply(f);
    launch(context, SettleSequences{.residual = iterate.residual().data(),
                                    .settled = progress.settled.data(),
                                    .iterations = progress.iterations.data(),
                                    .since = progress.since.data(),
                                    .best = progress.best.data(),
                                    .damping = progress.damping.data(),
                                    .step = progress.step.data(),
                                    .B = B,
                                    .T = T,
                                    .iteration = as_count(l),
                                    .tolerance = options.tolerance,
                                    .backwards = options.backwards,
                                    .shrink_after = options.shrink_after});
    if (l % between == 0 && l < options.max_iterations && progress.all_settled(T)) break;
    iterate.update(progress.step);
  }
  return {.y = iterate.y(), .iterations = progress.iterations, .settled = progress.settled};
}

}  // namespace fprnn
