#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/adamw_update.h>

#include <cmath>
#include <vector>

namespace fprnn {

FPRNN_KERNEL(void adamw_update(const AdamWUpdate&, const AdamWPart&, real gradient_scale,
                               int64_t begin, int64_t end))
FPRNN_KERNEL(double vector_sum_of_squares(const real* x, int64_t count))

void run(Cpu cpu, const GradientSquares& args) {
  const auto kernel = FPRNN_SELECT(cpu, vector_sum_of_squares);
  args.outcome->squares = 0;
  for (const AdamWPart& part : args.parts) {
    std::vector<double> sums(pieces(part.count, kGrain));
    parallel_for(cpu, part.count, kGrain, [&](int64_t begin, int64_t end) {
      sums[begin / kGrain] = kernel(part.gradient + begin, end - begin);
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    args.outcome->squares += total;
  }
}

void run(Cpu cpu, const AdamWUpdate& args) {
  const double norm = std::sqrt(args.outcome->squares);
  const double factor = clip_factor(norm, args.numbers->clip);
  const bool taken = !args.parts.empty() && can_be_taken(norm, factor) &&
                     (args.loss == nullptr || std::isfinite(*args.loss));
  args.outcome->taken = taken;
  if (!taken) return;
  const auto scale = static_cast<real>(factor);
  const auto kernel = FPRNN_SELECT(cpu, adamw_update);
  for (const AdamWPart& part : args.parts)
    parallel_for(cpu, part.count, kGrain,
                 [&](int64_t begin, int64_t end) { kernel(args, part, scale, begin, end); });
}

}  // namespace fprnn
