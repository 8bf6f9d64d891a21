// What forward and backward of the SSD scan share: a block's place in the problem, its chunks in shared memory
// and their step sizes.
#pragma once

#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/tile_rows.cuh>
#include <fprnn/ops/ssd_scan.h>

namespace fprnn::cuda {

constexpr int kSteps = kSsdGpuChunk, kChannels = kSsdGpuChannels;
constexpr int kSsdThreads = 256;
static_assert(kSteps == kWarp && kChannels == 64 && kSsdThreads == 8 * kWarp);
constexpr int kChannelStride = kChannels + 8, kStepStride = kSteps + 4;

// Numbers of the steps of a chunk, with l_t the sum of ln a up to t and Q the last step. Steps beyond
// T have a size and a ln a of zero, and so change nothing.
struct SsdSteps {
  real dt[kSteps];      // step sizes
  real sum[kSteps];     // l_t / ln 2
  real in[kSteps];      // exp(l_t): what is left at t of the state that enters
  real out[kSteps];     // exp(l_Q - l_t): what is left of t in the one that leaves
  real weight[kSteps];  // out . dt
  __device__ real decay() const { return in[kSteps - 1]; }
};

struct SsdPlan {
  int64_t chunks;
  bool channel_quads, state_quads;  // 16 bytes are read at once
  bool channel_pairs, state_pairs;  // and 8 written
};

struct SsdBlock {
  const SsdScanForward& args;
  const SsdPlan& plan;
  int64_t b, h, group;
  int warp;

  __device__ SsdBlock(const SsdScanForward& args, const SsdPlan& plan)
      : args(args),
        plan(plan),
        b(blockIdx.x / args.H),
        h(blockIdx.x % args.H),
        group(h / (args.H / args.G)),
        warp(static_cast<int>(threadIdx.x) / kWarp) {}

  __device__ int64_t step(int64_t t) const { return (b * args.T + t) * args.H + h; }
  __device__ int64_t row(int64_t t) const { return ((b * args.T + t) * args.G + group) * args.N; }
  __device__ int64_t state() const { return (b * args.H + h) * args.P * args.N; }
  __device__ int count(int64_t begin) const {
    return static_cast<int>(::min(args.T - begin, int64_t{kSteps}));
  }
  __device__ real* checkpoint(int64_t chunk) const {
    return args.checkpoints + ((b * args.H + h) * (plan.chunks - 1) + chunk - 1) * args.P * args.N;
  }
  __device__ real skip(int p) const {
    if (args.skip == nullptr || p >= args.P) return 0;
    return args.channel_skip ? args.skip[h * args.P + p] : args.skip[h];
  }
};

// Asks for the rows of a chunk that exist and zeros for the others.
template <int kColumns, class Count>
__device__ __forceinline__ void fetch_steps(const real* from, int64_t stride, Count count,
                                            int64_t columns, bool quads, real* to) {
  fetch_rows<kSteps, kColumns, kSsdThreads>(from, stride, count, columns, quads, to);
}
template <class Count>
__device__ __forceinline__ void fetch_channels(const SsdBlock& at, const real* from, int64_t begin,
                                               Count count, real* to) {
  fetch_steps<kChannels>(from + at.step(begin) * at.args.P, at.args.H * at.args.P, count, at.args.P,
                         at.plan.channel_quads, to);
}
template <int N, class Count>
__device__ __forceinline__ void fetch_directions(const SsdBlock& at, const real* from,
                                                 int64_t begin, Count count, real* to) {
  fetch_steps<N>(from + at.row(begin), at.args.G * at.args.N, count, at.args.N, at.plan.state_quads,
                 to);
}

// To the second-level cache, a line of 128 bytes a thread.
__device__ __forceinline__ void prefetch(const real* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}
__device__ __forceinline__ void prefetch_channels(const SsdBlock& at, const real* from,
                                                  int64_t begin) {
  constexpr int kLine = 128 / sizeof(real), kLines = kChannels / kLine;
  const int row = static_cast<int>(threadIdx.x) / kLines,
            column = static_cast<int>(threadIdx.x) % kLines * kLine;
  if (begin >= 0 && row < kSteps && begin + row < at.args.T && column < at.args.P)
    prefetch(from + at.step(begin + row) * at.args.P + column);
}

// The block's state (P, N), zero where nothing exists or `from` is null, and back. A thread has the same
// numbers both times.
template <int N, class Visit>
__device__ __forceinline__ void each_of_state(const SsdBlock& at, const Visit& visit) {
  for (int i = threadIdx.x; i < kChannels * N; i += kSsdThreads) {
    const int p = i / N, n = i % N;
    visit(p * (N + 8) + n, p * at.args.N + n, p < at.args.P && n < at.args.N);
  }
}
template <int N>
__device__ __forceinline__ void load_state(const SsdBlock& at, const real* from, real* state) {
  each_of_state<N>(at, [&](int i, int64_t index, bool exists) {
    state[i] = exists && from != nullptr ? from[at.state() + index] : real(0);
  });
}
template <int N>
__device__ __forceinline__ void store_state(const SsdBlock& at, const real* state, real* to) {
  each_of_state<N>(at, [&](int i, int64_t index, bool exists) {
    if (exists) to[at.state() + index] = state[i];
  });
}

// The step sizes of a chunk, by one warp; the lane has the slope of its own in what it is made of.
__device__ __forceinline__ real make_ssd_steps(const SsdBlock& at, int64_t begin, SsdSteps& steps) {
  const SsdScanForward& args = at.args;
  const int lane = lane_of();
  const bool exists = begin + lane < args.T;
  const real bias = args.dt_bias != nullptr ? args.dt_bias[at.h] : real(0);
  const real raw = exists ? args.dt[at.step(begin + lane)] + bias : real(0);
  real dt = args.softplus ? softplus(raw) : raw;
  real slope = args.softplus ? sigmoid(raw) : real(1);
  if (!exists || dt < args.dt_min || dt > args.dt_max) slope = 0;
  dt = exists ? at_most(at_least(dt, args.dt_min), args.dt_max) : real(0);
  // e to this power is 0; without a bound the differences of sums would not be numbers.
  constexpr real kLeast = kDouble ? -800 : -110;
  real sum = exists ? at_least(dt * args.a[at.h], kLeast) * kLog2e : real(0);
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const real before = __shfl_up_sync(kAllLanes, sum, distance);
    if (lane >= distance) sum += before;
  }
  const real out = exp2_decay(__shfl_sync(kAllLanes, sum, kWarp - 1) - sum);
  steps.dt[lane] = dt;
  steps.sum[lane] = sum;
  steps.in[lane] = exp2_decay(sum);
  steps.out[lane] = out;
  steps.weight[lane] = out * dt;
  return slope;
}

// What is left at step t of step s; nothing of a later one.
__device__ __forceinline__ real decay_between(const SsdSteps& steps, int t, int s) {
  return s <= t ? exp2_decay(steps.sum[t] - steps.sum[s]) : real(0);
}

// state (channels, N) <- decay state + (weights . rows)^T directions, where rows are (steps, channels); by
// all warps, each its own part. before(p, n, two): of the state that was.
template <int N, bool kExact, class Before>
__device__ __forceinline__ void update_state(const SsdBlock& at, const SsdSteps& steps,
                                             const real* rows, const real* weights,
                                             const real* directions, real* state,
                                             const Before& before) {
  constexpr int kTiles = N / 16;
  const int first = at.warp % 4 * 16, column = at.warp / 4 * (N / 2);
  if (first >= at.args.P) return;
  real* const own = state + first * (N + 8) + column;
  float sums[1][kTiles][4];
  each_pair<1, kTiles>([&](int, int n, int half, int i, int j) {
    const Two two = *reinterpret_cast<const Two*>(own + i * (N + 8) + j);
    before(first + i, column + j, two);
    unrolled<2>(
        [&](int k) { sums[0][n][2 * half + k] = static_cast<float>(steps.decay() * two.v[k]); });
  });
  add_product<kExact>(sums, 0, kSteps / 8, WeightedDown{{rows + first, kChannelStride}, weights},
                      Down{directions + column, N + 8});
  each_pair<1, kTiles>([&](int, int n, int half, int i, int j) {
    *reinterpret_cast<Two*>(own + i * (N + 8) +
                            j) = {{real(sums[0][n][2 * half]), real(sums[0][n][2 * half + 1])}};
  });
}

inline SsdPlan plan_ssd(const SsdScanForward& args, bool channels, bool states) {
  const bool across = channels && quads_aligned(args.x);
  const bool along = states && quads_aligned(args.b, args.c, args.checkpoints);
  return {.chunks = ceil_div(args.T, kSteps),
          .channel_quads = across && args.P % Quad::kCount == 0,
          .state_quads = along && args.N % Quad::kCount == 0,
          .channel_pairs = across && args.P % 2 == 0,
          .state_pairs = along && args.N % 2 == 0};
}

// visit(states, exact), constants: the least number of states that a kernel has, and whether products keep
// all bits of their factors.
template <class Visit>
void with_ssd_kernel(Cuda cuda, const SsdScanForward& args, const Visit& visit) {
  const bool exact = args.exact || gpu(cuda).matmul_precision == MatmulPrecision::fp32;
  with_constant<16, 64, kSsdGpuStates>(args.N <= 16   ? 16
                                       : args.N <= 64 ? 64
                                                      : kSsdGpuStates,
                                       [&](auto states) {
                                         if (exact)
                                           visit(states, std::true_type());
                                         else
                                           visit(states, std::false_type());
                                       });
}

}  // namespace fprnn::cuda
