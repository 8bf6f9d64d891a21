#include <fprnn/core/simd.h>
#include <fprnn/ops/conv.h>

namespace fprnn::FPRNN_ISA {

namespace {

// Row t of [state, x] for one sequence, null where it is before both.
FPRNN_INLINE const real* input_row(const real* x, const real* state, int64_t t, int64_t D,
                                   int64_t W) {
  if (t >= 0) return x + t * D;
  return state != nullptr ? state + (t + W - 1) * D : nullptr;
}

}  // namespace

// Sequences begin .. end; taps (W, D) is the transposed weight.
void conv_forward(const ConvForward& args, const real* taps, int64_t begin, int64_t end) {
  const int64_t T = args.T, D = args.D, W = args.W;
  for (int64_t b = begin; b < end; ++b) {
    const real* x = args.x + b * T * D;
    const real* state = args.state != nullptr ? args.state + b * (W - 1) * D : nullptr;
    for (int64_t t = 0; t < T; ++t) {
      real* y = args.y + (b * T + t) * D;
      for_lanes(D, [&](int64_t i, auto lanes) {
        Vec total = args.bias != nullptr ? lanes.load(args.bias + i) : Vec{};
        for (int64_t w = 0; w < W; ++w) {
          const real* row = input_row(x, state, t - (W - 1) + w, D, W);
          if (row != nullptr) total += lanes.load(taps + w * D + i) * lanes.load(row + i);
        }
        lanes.store(y + i, total);
      });
    }
  }
}

// One sequence; dtaps (W, D) and dbias (D) are its own share of the parameters' gradients.
void conv_backward(const ConvBackward& args, const real* taps, real* dtaps, real* dbias,
                   int64_t b) {
  const int64_t T = args.T, D = args.D, W = args.W;
  const real* x = args.x + b * T * D;
  const real* dy = args.dy + b * T * D;
  const real* state = args.state != nullptr ? args.state + b * (W - 1) * D : nullptr;
  for_lanes(D, [&](int64_t i, auto lanes) {
    // Parameters: what each tap met.
    for (int64_t w = 0; w < W; ++w) {
      Vec total{};
      for (int64_t t = 0; t < T; ++t) {
        const real* row = input_row(x, state, t - (W - 1) + w, D, W);
        if (row != nullptr) total += lanes.load(dy + t * D + i) * lanes.load(row + i);
      }
      lanes.store(dtaps + w * D + i, total);
    }
    Vec total{};
    for (int64_t t = 0; t < T; ++t) total += lanes.load(dy + t * D + i);
    lanes.store(dbias + i, total);
    // Inputs: the outputs that each one reached, which for the state start before 0.
    for (int64_t t = args.dstate != nullptr ? 1 - W : 0; t < T; ++t) {
      Vec gradient{};
      for (int64_t w = 0; w < W; ++w) {
        const int64_t reached = t + (W - 1) - w;
        if (reached >= 0 && reached < T)
          gradient += lanes.load(taps + w * D + i) * lanes.load(dy + reached * D + i);
      }
      real* to = t >= 0 ? args.dx + (b * T + t) * D : args.dstate + (b * (W - 1) + t + W - 1) * D;
      lanes.store(to + i, gradient);
    }
  });
}

}  // namespace fprnn::FPRNN_ISA
