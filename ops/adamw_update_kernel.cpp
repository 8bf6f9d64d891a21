#include <fprnn/core/vector_math.h>
#include <fprnn/ops/adamw_update.h>

namespace fprnn::FPRNN_ISA {

void adamw_update(const AdamWUpdate& args, const AdamWPart& part, real gradient_scale,
                  int64_t begin, int64_t end) {
  const AdamWNumbers& numbers = *args.numbers;
  const real shrink = part.decays ? numbers.shrink : 1;
  for_lanes(end - begin, [&](int64_t offset, auto lanes) {
    const int64_t i = begin + offset;
    const Vec g = gradient_scale * lanes.load(part.gradient + i);
    const Vec mean = args.beta1 * lanes.load(part.mean + i) + (1 - args.beta1) * g;
    const Vec variance = args.beta2 * lanes.load(part.variance + i) + (1 - args.beta2) * g * g;
    lanes.store(part.mean + i, mean);
    lanes.store(part.variance + i, variance);
    const Vec deviation = square_root(variance) * numbers.variance_correction + args.eps;
    lanes.store(part.value + i,
                shrink * lanes.load(part.value + i) - numbers.step_size * mean / deviation);
  });
}

}  // namespace fprnn::FPRNN_ISA
