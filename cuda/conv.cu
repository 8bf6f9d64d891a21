// Causal depthwise convolution in time (ops/conv.h). A thread takes a few neighbouring channels of a run
// of 8 steps: it reads the run's rows and the W - 1 before (backward of dy: after) it into
// registers, all at once, and every product is there. Rows that two runs need come from a cache the
// second time.
// Cost: 8 bytes an element forward, 12 backward; bound by memory. 4 taps, which layers have, are compiled
// in; any other number goes by way of one thread an element that reads every tap's row.
//
// Gradients of weights and bias: each thread has sums of its run; a block has 32 packs of channels and
// 8 runs, adds up the latter in shared memory, and writes one share. Shares are summed as rows of a
// matrix by SumMiddle.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/conv.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kTaps = 4;
constexpr int kRun = 8;                  // steps
constexpr int kRows = kRun + kTaps - 1;  // that meet them
constexpr int kConvWarps = 8;            // of a block of backward

// Runs cover the T steps of each of B sequences, numbered across all of them. A sequence without steps
// has one still, which writes the gradient of its state.
struct Run {
  int64_t b, t;  // its first step
};
FPRNN_HOST_DEVICE int64_t runs_of(int64_t T) { return T > kRun ? (T + kRun - 1) / kRun : 1; }
__device__ __forceinline__ Run run_at(int64_t number, int64_t T) {
  const int64_t runs = runs_of(T), b = number / runs;
  return {b, (number - b * runs) * kRun};
}

// Row t of [state, x] of sequence b at a pack of channels; false where it is before both, or after.
template <int Width, class Args>
__device__ __forceinline__ bool load_input(const Args& args, int64_t b, int64_t t, int64_t channel,
                                           Pack<Width>& x) {
  x = {};
  if (t >= args.T || (t < 0 && args.state == nullptr)) return false;
  const real* row = t >= 0 ? args.x + (b * args.T + t) * args.D
                           : args.state + (b * (kTaps - 1) + t + kTaps - 1) * args.D;
  x = *packs<Width>(row + channel);
  return true;
}

// The taps of Width neighbouring channels, which are neighbours in (D, W).
template <int Width>
struct Taps {
  real v[Width][kTaps];
};
template <int Width>
__device__ __forceinline__ Taps<Width> load_taps(const real* weight, int64_t channel) {
  Taps<Width> taps;
  unrolled<kTaps>([&](int i) {
    const Pack<Width> pack = packs<Width>(weight + channel * kTaps)[i];
    unrolled<Width>(
        [&](int j) { taps.v[(i * Width + j) / kTaps][(i * Width + j) % kTaps] = pack.v[j]; });
  });
  return taps;
}

template <int Width>
struct ConvRun {
  ConvForward args;
  __device__ void operator()(int64_t i) const {
    const int64_t D = args.D / Width, number = i / D, channel = (i - number * D) * Width;
    const auto [b, begin] = run_at(number, args.T);
    Pack<Width> x[kRows];
    bool exists[kRows];
    unrolled<kRows>(
        [&](int j) { exists[j] = load_input(args, b, begin + j - (kTaps - 1), channel, x[j]); });
    const Taps<Width> taps = load_taps<Width>(args.weight, channel);
    Pack<Width> bias{};
    if (args.bias != nullptr) bias = *packs<Width>(args.bias + channel);
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      if (begin + k >= args.T) return;
      Pack<Width> y = bias;
      unrolled<kTaps>([&](int w) {
        unrolled<Width>([&](int c) {
          if (exists[k + w]) y.v[c] += taps.v[c][w] * x[k + w].v[c];
        });
      });
      *packs<Width>(args.y + (b * args.T + begin + k) * args.D + channel) = y;
    }
  }
};

// dx of a run, or dstate of the W - 1 rows before step 0: the outputs that each input reached.
// dy[j] is row begin + j.
template <int Width>
__device__ __forceinline__ void input_gradients(const ConvBackward& args, const Run& run,
                                                int64_t channel, const Pack<Width> (&dy)[kRows]) {
  const Taps<Width> taps = load_taps<Width>(args.weight, channel);
  const int64_t left = args.T - run.t;
  const auto gradient = [&](int k) {
    Pack<Width> dx{};
    unrolled<kTaps>([&](int w) {
      const int reached = k + kTaps - 1 - w;
      unrolled<Width>([&](int c) {
        if (reached >= 0 && reached < left) dx.v[c] += taps.v[c][w] * dy[reached].v[c];
      });
    });
    return dx;
  };
  unrolled<kRun>([&](int k) {
    if (k < left)
      *packs<Width>(args.dx + (run.b * args.T + run.t + k) * args.D + channel) = gradient(k);
  });
  if (run.t > 0 || args.dstate == nullptr) return;
#pragma unroll
  for (int k = 1 - kTaps; k < 0; ++k)
    *packs<Width>(args.dstate + (run.b * (kTaps - 1) + k + kTaps - 1) * args.D + channel) =
        gradient(k);
}

// What a run adds to the gradients of Width channels' taps and biases.
template <int Width>
struct ParameterSums {
  real taps[Width][kTaps];
  real bias[Width];
};
template <int Width>
__device__ __forceinline__ ParameterSums<Width> parameter_sums(const ConvBackward& args,
                                                               const Run& run, int64_t channel,
                                                               const Pack<Width> (&dy)[kRows]) {
  Pack<Width> x[kRows];
  bool exists[kRows];
  unrolled<kRows>(
      [&](int j) { exists[j] = load_input(args, run.b, run.t + j - (kTaps - 1), channel, x[j]); });
  ParameterSums<Width> sums{};
  unrolled<kRun>([&](int k) {
    const bool there = run.t + k < args.T;
    unrolled<Width>([&](int c) {
      unrolled<kTaps>([&](int w) {
        if (there && exists[k + w]) sums.taps[c][w] += dy[k].v[c] * x[k + w].v[c];
      });
      if (there) sums.bias[c] += dy[k].v[c];
    });
  });
  return sums;
}

// Shares of the sums: (groups of 8 runs, D, W) and (groups, D).
struct ConvShares {
  real *taps, *bias;  // bias may be null
};

// A block: tile of 32 packs of channels, group of 8 runs, one a warp.
template <int Width>
__global__ void __launch_bounds__(kConvWarps* kWarp)
    conv_backward_kernel(ConvBackward args, ConvShares shares, int64_t tiles) {
  constexpr int kTapSums = Width * kTaps, kSums = kTapSums + Width;
  // A column more, so that lanes that add up different sums meet different banks.
  __shared__ real totals[kConvWarps][kSums][kWarp + 1];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t group = blockIdx.x / tiles, tile = blockIdx.x % tiles * kWarp * Width;
  const int64_t number = group * kConvWarps + warp, channel = tile + lane * Width;
  ParameterSums<Width> sums{};
  if (number < args.B * runs_of(args.T) && channel < args.D) {
    const Run run = run_at(number, args.T);
    Pack<Width> dy[kRows];
    unrolled<kRows>([&](int j) {
      dy[j] = {};
      if (run.t + j < args.T)
        dy[j] = *packs<Width>(args.dy + (run.b * args.T + run.t + j) * args.D + channel);
    });
    sums = parameter_sums<Width>(args, run, channel, dy);
    input_gradients<Width>(args, run, channel, dy);
  }
  unrolled<Width>([&](int c) {
    unrolled<kTaps>([&](int w) { totals[warp][c * kTaps + w][lane] = sums.taps[c][w]; });
    totals[warp][kTapSums + c][lane] = sums.bias[c];
  });
  __syncthreads();

  // Sum `which` of pack p of the tile, over the runs in their order.
  const auto total = [&](int which, int p) {
    real sum = 0;
    unrolled<kConvWarps>([&](int w) { sum += totals[w][which][p]; });
    return sum;
  };
  for (int i = threadIdx.x; i < kTapSums * kWarp; i += kConvWarps * kWarp)
    if (tile * kTaps + i < args.D * kTaps)
      shares.taps[(group * args.D + tile) * kTaps + i] = total(i % kTapSums, i / kTapSums);
  for (int i = threadIdx.x; i < Width * kWarp; i += kConvWarps * kWarp)
    if (shares.bias != nullptr && tile + i < args.D)
      shares.bias[group * args.D + tile + i] = total(kTapSums + i % Width, i / Width);
}

// Any number of taps: one element of the output, the input or a share at a time.

// Row t of [state, x] of sequence b at channel d; null where it is before both.
template <class Args>
__device__ __forceinline__ const real* input_at(const Args& args, int64_t b, int64_t t, int64_t d) {
  if (t >= 0) return args.x + (b * args.T + t) * args.D + d;
  return args.state == nullptr ? nullptr
                               : args.state + (b * (args.W - 1) + t + args.W - 1) * args.D + d;
}

struct ConvElement {
  ConvForward args;
  __device__ void operator()(int64_t i) const {
    const int64_t T = args.T, D = args.D, W = args.W;
    const int64_t d = i % D, row = i / D, b = row / T, t = row % T;
    real total = args.bias != nullptr ? args.bias[d] : real(0);
    for (int64_t w = 0; w < W; ++w)
      if (const real* x = input_at(args, b, t - (W - 1) + w, d))
        total += args.weight[d * W + w] * *x;
    args.y[i] = total;
  }
};

struct InputElement {
  ConvBackward args;
  int64_t before;  // rows before step 0: W - 1 with dstate, else none
  __device__ void operator()(int64_t i) const {
    const int64_t T = args.T, D = args.D, W = args.W, rows = T + before;
    const int64_t d = i % D, row = i / D, b = row / rows, t = row % rows - before;
    real gradient = 0;
    for (int64_t w = 0; w < W; ++w) {
      const int64_t reached = t + (W - 1) - w;
      if (reached >= 0 && reached < T)
        gradient += args.weight[d * W + w] * args.dy[(b * T + reached) * D + d];
    }
    real* to = t >= 0 ? args.dx + (b * T + t) * D : args.dstate + (b * (W - 1) + t + W - 1) * D;
    to[d] = gradient;
  }
};

constexpr int64_t kSharePiece = 64;  // steps of a sequence in one share
FPRNN_HOST_DEVICE int64_t pieces_of(int64_t T) { return (T + kSharePiece - 1) / kSharePiece; }

// i counts (share, W taps and the bias, D), so that neighbouring threads read neighbours.
struct ShareElement {
  ConvBackward args;
  ConvShares shares;
  __device__ void operator()(int64_t i) const {
    const int64_t T = args.T, D = args.D, W = args.W, pieces = pieces_of(T);
    const int64_t d = i % D, w = i / D % (W + 1), share = i / D / (W + 1);
    const int64_t b = share / pieces, begin = share % pieces * kSharePiece;
    const int64_t end = T - begin < kSharePiece ? T : begin + kSharePiece;
    const real* dy = args.dy + b * T * D + d;
    real total = 0;
    if (w == W) {
      if (shares.bias == nullptr) return;
      for (int64_t t = begin; t < end; ++t) total += dy[t * D];
      shares.bias[share * D + d] = total;
      return;
    }
    for (int64_t t = begin; t < end; ++t)
      if (const real* x = input_at(args, b, t - (W - 1) + w, d)) total += dy[t * D] * *x;
    shares.taps[(share * D + d) * W + w] = total;
  }
};

template <int Width>
bool packs_aligned(auto... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % sizeof(Pack<Width>) == 0) && ...);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const ConvForward& args) {
  if (args.W != kTaps)
    return for_each(cuda, "conv_forward", args.B * args.T * args.D, ConvElement{args});
  const bool aligned = quads_aligned(args.x, args.weight, args.bias, args.state, args.y);
  with_width(args.D, aligned, [&](auto width) {
    for_each(cuda, "conv_forward", args.B * runs_of(args.T) * (args.D / width),
             ConvRun<width>{args});
  });
}

void run(Cuda cuda, const ConvBackward& args) {
  // 8 bytes: with 16 a thread's rows leave room for too few threads.
  constexpr int kWidth = 8 / sizeof(real);
  const int64_t D = args.D, W = args.W;
  const int64_t groups =
      W == kTaps ? ceil_div(args.B * runs_of(args.T), kConvWarps) : args.B * pieces_of(args.T);
  const Tensor taps(cuda.context, Shape{groups, D * W});
  const Tensor bias = args.dbias != nullptr ? Tensor(cuda.context, Shape{groups, D}) : Tensor();
  const ConvShares shares{taps.data(), args.dbias != nullptr ? bias.data() : nullptr};
  if (W != kTaps) {
    const int64_t before = args.dstate != nullptr ? W - 1 : 0;
    for_each(cuda, "conv_inputs", args.B * (args.T + before) * D, InputElement{args, before});
    for_each(cuda, "conv_shares", groups * (W + 1) * D, ShareElement{args, shares});
  } else {
    const bool aligned =
        packs_aligned<kWidth>(args.x, args.weight, args.state, args.dy, args.dx, args.dstate);
    with_width<kWidth>(D, aligned, [&](auto width) {
      const int64_t tiles = ceil_div(D, kWarp * width);
      start(cuda, "conv_backward", conv_backward_kernel<width>,
            {.blocks = groups * tiles, .threads = kConvWarps * kWarp}, args, shares, tiles);
    });
  }
  run(cuda,
      SumMiddle{.x = taps.data(), .y = args.dweight, .outer = 1, .middle = groups, .inner = D * W});
  if (args.dbias != nullptr)
    run(cuda,
        SumMiddle{.x = bias.data(), .y = args.dbias, .outer = 1, .middle = groups, .inner = D});
}

}  // namespace fprnn
