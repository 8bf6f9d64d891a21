#include <fprnn/core/simd.h>
#include <fprnn/ops/scan.h>

namespace fprnn::FPRNN_ISA {

// Channels begin .. end of sequence b.
void scan_forward(const ScanForward& args, int64_t b, int64_t begin, int64_t end) {
  const int64_t T = args.T, D = args.D;
  const int64_t first = (b * T + (args.reverse ? T - 1 : 0)) * D + begin;
  const int64_t step = args.reverse ? -D : D;
  const real* before = args.h0 != nullptr ? args.h0 + b * D + begin : nullptr;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t row = first + t * step;
    for_lanes(end - begin, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
      const Vec state = before != nullptr ? lanes.load(before + i) : Vec{};
      lanes.store(args.h + row + i,
                  lanes.load(args.a + row + i) * state + lanes.load(args.b + row + i));
    });
    before = args.h + row;
  }
}

// The same channels, from the last step back; db holds g, and a . g carries to the step before.
void scan_backward(const ScanBackward& args, int64_t b, int64_t begin, int64_t end) {
  const int64_t T = args.T, D = args.D;
  const int64_t first = (b * T + (args.reverse ? T - 1 : 0)) * D + begin;
  const int64_t step = args.reverse ? -D : D;
  const real* h0 = args.h0 != nullptr ? args.h0 + b * D + begin : nullptr;
  for (int64_t t = T - 1; t >= 0; --t) {
    const int64_t row = first + t * step, next = row + step;
    const real* before = t > 0 ? args.h + row - step : h0;
    for_lanes(end - begin, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
      Vec g = lanes.load(args.dh + row + i);
      if (t + 1 < T) g += lanes.load(args.a + next + i) * lanes.load(args.db + next + i);
      const Vec state = before != nullptr ? lanes.load(before + i) : Vec{};
      lanes.store(args.db + row + i, g);
      lanes.store(args.da + row + i, g * state);
    });
  }
  if (args.dh0 == nullptr) return;
  real* dh0 = args.dh0 + b * D + begin;
  for_lanes(end - begin, [&](int64_t i, auto lanes) __attribute__((always_inline)) {
    lanes.store(dh0 + i, T > 0 ? lanes.load(args.a + first + i) * lanes.load(args.db + first + i)
                               : Vec{});
  });
}

}  // namespace fprnn::FPRNN_ISA
