// What both kernels of the SSD scan share: the addresses of one head, its step sizes, and the
// shares of a backward pass. For kernel files only.
#pragma once

#include <fprnn/core/vector_math.h>
#include <fprnn/ops/ssd_scan.h>

namespace fprnn::FPRNN_ISA {

struct SsdHead {
  const SsdScanForward& args;
  int64_t b, h;

  int64_t group() const { return h / (args.H / args.G); }
  int64_t step_at(int64_t t) const { return (b * args.T + t) * args.H + h; }  // in (B, T, H)
  int64_t at(int64_t t) const { return step_at(t) * args.P; }                 // in (B, T, H, P)
  int64_t row(int64_t t) const { return ((b * args.T + t) * args.G + group()) * args.N; }
  int64_t state() const { return (b * args.H + h) * args.P * args.N; }
  real* checkpoint(int64_t chunk) const {
    const int64_t chunks = (args.T + kSsdChunk - 1) / kSsdChunk, rows = (args.P + 15) / 16 * 16;
    return args.checkpoints + ((b * args.H + h) * chunks + chunk) * rows * args.N;
  }
  // Of kLanes channels from p on.
  template <class Lanes>
  FPRNN_INLINE Vec skip(int64_t p, Lanes lanes) const {
    if (args.skip == nullptr) return Vec{};
    return args.channel_skip ? lanes.load(args.skip + h * args.P + p) : splat(args.skip[h]);
  }
};

// The steps of one head in one chunk.
struct SsdSteps {
  real dt[kSsdChunk];       // step sizes
  real slope[kSsdChunk];    // of a step size in what it is made of
  real decay[kSsdChunk];    // a
  real stretch[kSsdChunk];  // da / d(dt A)
};

FPRNN_INLINE void load_ssd_steps(const SsdHead& head, int64_t begin, int64_t end, SsdSteps& steps) {
  const SsdScanForward& args = head.args;
  const real bias = args.dt_bias != nullptr ? args.dt_bias[head.h] : 0, rate = args.a[head.h];
  for (int64_t i = 0; i < end - begin; i += kLanes) {
    Vec raw{};
    for (int64_t j = 0; j < minimum(kLanes, end - begin - i); ++j)
      raw[j] = args.dt[head.step_at(begin + i + j)] + bias;
    Vec dt = raw, slope = splat(1);
    if (args.softplus) {
      const auto softplus = softplus_with_slope(raw);
      dt = softplus.value;
      slope = softplus.slope;
    }
    slope = select((dt < args.dt_min) | (dt > args.dt_max), Vec{}, slope);
    dt = at_most(at_least(dt, args.dt_min), args.dt_max);
    const Vec e = exp(dt * rate);
    store(steps.dt + i, dt);
    store(steps.slope + i, slope);
    store(steps.decay + i, args.negative ? 2 * e - 1 : e);
    store(steps.stretch + i, args.negative ? 2 * e : e);
  }
}

// What a step leaves once the cotangents of dt A and, apart from that, of dt are known. `at` is
// its place in the chunk.
FPRNN_INLINE void store_ssd_step(const SsdHead& head, const SsdScanBackward& args, int64_t t,
                                 int64_t at, real dexponent, real ddt, const SsdSteps& steps,
                                 const SsdShares& shares) {
  const real raw = (dexponent * head.args.a[head.h] + ddt) * steps.slope[at];
  args.ddt[head.step_at(t)] = raw;
  shares.dt_bias[head.h] += raw;
  shares.da[head.h] += dexponent * steps.dt[at];
}

}  // namespace fprnn::FPRNN_ISA
