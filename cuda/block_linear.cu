// A thread takes one channel, whose row of its block's matrix it holds in registers, through a piece of the
// tokens; neighbours read the same block of x.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/block_linear.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

namespace cuda {

namespace {

constexpr int kChannels = 128;    // of a block
constexpr int kWidestBlock = 16;  // numbers a thread holds
constexpr int64_t kTokens = 32;   // of a piece
constexpr int64_t kPieces = 128;  // of a sum over tokens, at most

// y_j = W_j x_j, or with `turned` the transposed W_j.
struct Blocks {
  const real* x;       // (tokens, N, other)
  const real* weight;  // (N, own, other), or turned (N, other, own)
  real* y;             // (tokens, N, own)
  int64_t tokens, piece;
  int N, own, other;
  bool turned;
};

// x's numbers, of which there are `count`, which is kWidth with kQuads.
template <int kWidth, bool kQuads>
__device__ __forceinline__ void load_block(const real* x, int count, real (&to)[kWidth]) {
  if constexpr (kQuads) {
    unrolled<kWidth / Quad::kCount>([&](int q) {
      const Quad some = reinterpret_cast<const Quad*>(x)[q];
      unrolled<Quad::kCount>([&](int k) { to[q * Quad::kCount + k] = some.v[k]; });
    });
  } else {
    unrolled<kWidth>([&](int k) { to[k] = k < count ? x[k] : real(0); });
  }
}

// Where a thread works: its channel, whether there is one, its block of x, and its tokens.
struct Place {
  int channel, j;
  int64_t piece, begin, end;

  __device__ __forceinline__ explicit Place(const Blocks& args) {
    const int tiles = (args.N * args.own + kChannels - 1) / kChannels;
    channel = static_cast<int>(blockIdx.x % tiles) * kChannels + static_cast<int>(threadIdx.x);
    j = channel / args.own;
    piece = blockIdx.x / tiles;
    begin = piece * args.piece;
    end = ::min(begin + args.piece, args.tokens);
  }
};

template <int kWidth, bool kQuads>
__global__ void __launch_bounds__(kChannels) block_linear_kernel(const Blocks args) {
  const Place at(args);
  if (at.j >= args.N) return;
  real w[kWidth];
  unrolled<kWidth>([&](int k) {
    const int64_t of_block = int64_t{at.j} * args.own * args.other, own = at.channel % args.own;
    const int64_t entry = args.turned ? k * args.own + own : own * args.other + k;
    w[k] = k < args.other ? args.weight[of_block + entry] : real(0);
  });
#pragma unroll 4
  for (int64_t token = at.begin; token < at.end; ++token) {
    real x[kWidth], total = 0;
    load_block<kWidth, kQuads>(args.x + (token * args.N + at.j) * args.other, args.other, x);
    unrolled<kWidth>([&](int k) {
      if (kQuads || k < args.other) total += w[k] * x[k];
    });
    args.y[token * args.N * args.own + at.channel] = total;
  }
}

// What a piece of the tokens gives to the weights: sum over them of y_j x_j^T, where y is read, to shares
// (pieces, N, own, other).
template <int kWidth, bool kQuads>
__global__ void __launch_bounds__(kChannels)
    block_linear_weights_kernel(const Blocks args, const real* y, real* shares) {
  const Place at(args);
  if (at.j >= args.N) return;
  real total[kWidth] = {};
#pragma unroll 4
  for (int64_t token = at.begin; token < at.end; ++token) {
    real x[kWidth];
    load_block<kWidth, kQuads>(args.x + (token * args.N + at.j) * args.other, args.other, x);
    const real one = y[token * args.N * args.own + at.channel];
    unrolled<kWidth>([&](int k) { total[k] += one * x[k]; });
  }
  real* const to = shares + (at.piece * args.N * args.own + at.channel) * args.other;
  unrolled<kWidth>([&](int k) {
    if (k < args.other) to[k] = total[k];
  });
}

// visit(width, whether x is read in Quads, as constants).
template <class Visit>
void with_width(const Blocks& args, const Visit& visit) {
  const auto of = [&](auto width) {
    args.other == width() && quads_aligned(args.x) ? visit(width, std::true_type())
                                                   : visit(width, std::false_type());
  };
  args.other <= 4 ? of(Constant<4>()) : args.other <= 8 ? of(Constant<8>()) : of(Constant<16>());
}

Grid grid_of(const Blocks& args, int64_t pieces) {
  return {.blocks = ceil_div(int64_t{args.N} * args.own, kChannels) * pieces, .threads = kChannels};
}

Blocks blocks_of(const BlockLinearForward& args) {
  return {.x = args.x,
          .weight = args.weight,
          .y = args.y,
          .tokens = args.tokens,
          .piece = kTokens,
          .N = static_cast<int>(args.N),
          .own = static_cast<int>(args.outputs),
          .other = static_cast<int>(args.inputs),
          .turned = false};
}

void multiply_blocks(Cuda cuda, const Blocks& args) {
  with_width(args, [&](auto width, auto quads) {
    start(cuda, "block_linear", block_linear_kernel<width(), quads()>,
          grid_of(args, ceil_div(args.tokens, args.piece)), args);
  });
}

void sum_weights(Cuda cuda, Blocks args, const real* dy, real* dweight) {
  args.piece = std::max(2 * kTokens, ceil_div(args.tokens, kPieces));
  const int64_t pieces = std::max<int64_t>(1, ceil_div(args.tokens, args.piece));
  const int64_t weights = int64_t{args.N} * args.own * args.other;
  const Tensor shares(cuda.context, Shape{pieces, weights});
  with_width(args, [&](auto width, auto quads) {
    start(cuda, "block_linear_weights", block_linear_weights_kernel<width(), quads()>,
          grid_of(args, pieces), args, dy, shares.data());
  });
  run(cuda,
      SumMiddle{.x = shares.data(), .y = dweight, .outer = 1, .middle = pieces, .inner = weights});
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const BlockLinearForward& args) {
  return args.outputs <= kWidestBlock && args.inputs <= kWidestBlock &&
         args.N < INT32_MAX / (2 * kWidestBlock);
}

void run(Cuda cuda, const BlockLinearForward& args) { multiply_blocks(cuda, blocks_of(args)); }

void run(Cuda cuda, const BlockLinearBackward& args) {
  const Blocks blocks = blocks_of(args);
  if (args.dx != nullptr) {
    Blocks turned = blocks;
    turned.x = args.dy;
    turned.y = args.dx;
    std::swap(turned.own, turned.other);
    turned.turned = true;
    multiply_blocks(cuda, turned);
  }
  if (args.dweight != nullptr) sum_weights(cuda, blocks, args.dy, args.dweight);
}

}  // namespace fprnn
