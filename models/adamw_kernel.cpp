#include <fprnn/core/vector_math.h>
#include <fprnn/models/adamw.h>

namespace fprnn::FPRNN_ISA {

void adamw_update(const AdamWUpdate& args, int64_t begin, int64_t end) {
  for_lanes(end - begin, [&](int64_t offset, auto lanes) {
    const int64_t i = begin + offset;
    const Vec g = args.gradient_scale * lanes.load(args.gradient + i);
    const Vec mean = args.beta1 * lanes.load(args.mean + i) + (1 - args.beta1) * g;
    const Vec variance = args.beta2 * lanes.load(args.variance + i) + (1 - args.beta2) * g * g;
    lanes.store(args.mean + i, mean);
    lanes.store(args.variance + i, variance);
    const Vec deviation = square_root(variance) * args.variance_correction + args.eps;
    lanes.store(args.value + i,
                args.shrink * lanes.load(args.value + i) - args.step_size * mean / deviation);
  });
}

}  // namespace fprnn::FPRNN_ISA
