#include <fprnn/autograd/iterate.h>
#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

void row_residuals(const RowResiduals& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    Vec difference{}, size{};
    for_lanes(args.D, [&](int64_t i, auto lanes) {
      const Vec f = lanes.load(args.f + row * args.D + i);
      difference = larger_or_nan(difference, magnitude(f - lanes.load(args.y + row * args.D + i)));
      size = larger_or_nan(size, magnitude(f));
    });
    args.residual[row] =
        largest_or_nan(difference) / (largest_or_nan(size) + static_cast<real>(kResidualFloor));
  }
}

void damped_update(const DampedUpdate& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const real step = args.step[row];
    if (step == 1) continue;
    const real* y = args.y + row * args.D;
    real* f = args.f + row * args.D;
    for_lanes(args.D, [&](int64_t i, auto lanes) {
      const Vec old = lanes.load(y + i);
      lanes.store(f + i, step == 0 ? old : step * lanes.load(f + i) + (1 - step) * old);
    });
  }
}

}  // namespace fprnn::FPRNN_ISA
