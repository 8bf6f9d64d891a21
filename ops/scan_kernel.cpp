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
    for_lanes(end - begin, [&](int64_t i, auto lanes) {
      const Vec state = before != nullptr ? lanes.load(before + i) : Vec{};
      lanes.store(args.h + row + i,
                  lanes.load(args.a + row + i) * state + lanes.load(args.b + row + i));
    });
    before = args.h + row;
  }
}

constexpr int64_t kRowsAhead = 2;

// The same channels, from the last step back. dh0 carries a_{t+1} g_{t+1}: reading the rows just
// written instead would meet, in tensors a multiple of 4 KiB apart, stores that only look like
// their own. Five streams going backwards are more than the hardware foresees: each row asks for
// those to come.
void scan_backward(const ScanBackward& args, int64_t b, int64_t begin, int64_t end) {
  const int64_t T = args.T, D = args.D;
  const int64_t first = (b * T + (args.reverse ? T - 1 : 0)) * D + begin;
  const int64_t step = args.reverse ? -D : D;
  const real* h0 = args.h0 != nullptr ? args.h0 + b * D + begin : nullptr;
  real* carry = args.dh0 + b * D + begin;
  const int64_t ahead = -kRowsAhead * step;
  for (int64_t i = 0; i < end - begin; ++i) carry[i] = 0;
  for (int64_t t = T - 1; t >= 0; --t) {
    const int64_t row = first + t * step;
    const real* before = t > 0 ? args.h + row - step : h0;
    for_lanes(end - begin, [&](int64_t i, auto lanes) {
      const real* const streams[] = {args.dh, args.h, args.a, args.db, args.da};
      for (const real* stream : streams) __builtin_prefetch(stream + row + i + ahead);
      const Vec g = lanes.load(args.dh + row + i) + lanes.load(carry + i);
      const Vec state = before != nullptr ? lanes.load(before + i) : Vec{};
      lanes.store(args.db + row + i, g);
      lanes.store(args.da + row + i, g * state);
      lanes.store(carry + i, lanes.load(args.a + row + i) * g);
    });
  }
}

}  // namespace fprnn::FPRNN_ISA
