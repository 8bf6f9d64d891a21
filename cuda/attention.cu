// Attention forward, and the rotary position. A block takes rows of queries of one head through
// blocks of keys; the next block's keys and values are on their way while one is computed.
#include <fprnn/cuda/attention.cuh>

namespace fprnn {

namespace cuda {

namespace {

// A block a token, a thread chunks of its heads.
constexpr int kPackThreads = 128;
template <class Element>
struct Pack {
  const real* from;  // (B, rows, H, d)
  Element* to;       // (B H, padded, D)
  int rows, padded, H, d, D;
  float factor;
  bool quads;  // whether four numbers of `from` can be read at once
};
template <class Mode>
__global__ void __launch_bounds__(kPackThreads)
    attention_pack_kernel(const Pack<typename Mode::Element> args) {
  using Element = typename Mode::Element;
  constexpr int kChunk = 16 / sizeof(Element);
  const int row = static_cast<int>(blockIdx.x % args.padded), chunks = args.D / kChunk;
  const int64_t b = blockIdx.x / args.padded;
  for (int i = static_cast<int>(threadIdx.x); i < args.H * chunks; i += kPackThreads) {
    const int h = i / chunks, first = i % chunks * kChunk;
    const real* const from = args.from + ((b * args.rows + row) * args.H + h) * args.d + first;
    const int count = row < args.rows ? args.d - first : 0;
    alignas(16) float x[kChunk];
#pragma unroll
    for (int j = 0; j < kChunk; j += 4)
      if (args.quads && j < count)
        *reinterpret_cast<float4*>(x + j) = *reinterpret_cast<const float4*>(from + j);
      else
        unrolled<4>([&](int k) { x[j + k] = j + k < count ? static_cast<float>(from[j + k]) : 0; });
    alignas(16) Element y[kChunk];
    unrolled<kChunk>([&](int j) { y[j] = Mode::element(x[j] * args.factor); });
    *reinterpret_cast<uint4*>(args.to + ((b * args.H + h) * args.padded + row) * args.D + first) =
        *reinterpret_cast<const uint4*>(y);
  }
}

// Scores become weights, not yet divided by their sum; a lane's own part of the sum, and y, of earlier
// blocks shrink with the maximum.
template <int kM, int kN, int kTiles>
__device__ __forceinline__ void weigh(float (&x)[kM][kN][4], float (&most)[kM][2],
                                      float (&sum)[kM][2], float (&y)[kM][kTiles][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = most[m][half];
      unrolled<kN>([&](int n) {
        largest = ::fmaxf(largest, ::fmaxf(x[m][n][2 * half], x[m][n][2 * half + 1]));
      });
      largest = ::fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
      largest = ::fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
      const float factor = exp2_decay(most[m][half] - largest);
      most[m][half] = largest;
      float total = 0;
      unrolled<kN>([&](int n) {
        unrolled<2>([&](int j) {
          float& weight = x[m][n][2 * half + j];
          weight = exp2_decay(weight - largest);
          total += weight;
        });
      });
      sum[m][half] = sum[m][half] * factor + total;
      unrolled<kTiles>([&](int n) {
        y[m][n][2 * half] *= factor;
        y[m][n][2 * half + 1] *= factor;
      });
    }
}

// From the lanes' parts to 1 / sum; keeps it and the maximum of rows from `t` on.
template <int kM>
__device__ __forceinline__ void finish_rows(const AttentionForward& args, const HeadSight& head,
                                            int t, const float (&most)[kM][2],
                                            float (&sum)[kM][2]) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& total = sum[m][half];
      total += __shfl_xor_sync(kAllLanes, total, 1);
      total += __shfl_xor_sync(kAllLanes, total, 2);
      total = 1 / total;
      const int row = t + m * 16 + half * 8 + lane_of() / 4;
      if (args.rows == nullptr || lane_of() % 4 != 0 || row >= args.T) continue;
      real* const kept = args.rows + 2 * (head.unit * args.T + row);
      kept[0] = most[m][half];
      kept[1] = total;
    }
}

template <class Mode, int D>
using ForwardBlock = QueryBlock<Mode, D, AttentionBlock<Mode, D>::kColumns, 1>;

template <class Mode, int D>
__global__ void __launch_bounds__(AttentionBlock<Mode, D>::kThreads)
    attention_forward_kernel(const AttentionForward args, const HeadPanels<Mode> panels,
                             int blocks) {
  using Of = AttentionBlock<Mode, D>;
  using P = Panel<Mode, D>;
  using Own = ForwardBlock<Mode, D>;
  constexpr int kM = Of::kM, kN = Of::kColumns / 8;
  extern __shared__ __align__(16) unsigned char attention_bytes[];
  const Own block(args, attention_bytes, blocks);
  float y[kM][D / 8][4] = {}, most[kM][2], sum[kM][2] = {};
  unrolled<kM>([&](int m) { most[m][0] = most[m][1] = kLowest; });
  block.bring_rows(panels.q, 0);
  block.bring(panels, block.begin, 0);
  const auto load = [&](int m, int step) {
    return P::left(block.rows + (block.own + m * 16) * Of::kRowBytes, step);
  };
  typename Mode::Left held[kM][Mode::kHold ? P::kSteps : 1];
  if constexpr (Mode::kHold) {
    wait_async<0>();
    __syncthreads();
    unrolled<kM>(
        [&](int m) { unrolled<P::kSteps>([&](int step) { held[m][step] = load(m, step); }); });
  }
  const auto left = [&](int m, int step) {
    if constexpr (Mode::kHold)
      return held[m][step];
    else
      return load(m, step);
  };

#pragma unroll 1
  for (int s = block.begin, stage = 0; s < block.end; s += Of::kColumns, stage ^= 1) {
    block.step(panels, s, stage);
    if (block.none_seen(s)) continue;
    float x[kM][kN][4];
    multiply_panel<Mode, D>(left, block.keys(stage), x);
    place_scores<1>(x, block.head, block.distance(s), Of::kColumns, block.all_seen(s));
    weigh(x, most, sum, y);
    add_product<Mode, D>(x, block.keys(stage) + Own::kPanel, y);
  }
  const int t = block.t + block.own;
  finish_rows(args, block.head, t, most, sum);
  store_rows(y, sum, args.y + block.head.place(args, args.T, t), static_cast<int>(args.T) - t,
             args.H * args.d, static_cast<int>(args.d));
}

// Cosines and sines of a token's angles, for all of its heads.
constexpr int kRotaryThreads = 256;
template <int kEach>
__global__ void __launch_bounds__(kRotaryThreads) rotary_kernel(const Rotary args) {
  struct alignas(kEach * sizeof(real)) Few {
    real v[kEach];
  };
  const int d = static_cast<int>(args.d), r = static_cast<int>(args.r), half = r / 2;
  const int64_t token = blockIdx.x, first = token * args.H * d;
  const real* const turns = args.turns + token % args.T * r;
  const auto few = [](const real* at) { return *reinterpret_cast<const Few*>(at); };
  const int each = d / kEach, count = static_cast<int>(args.H) * each;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kRotaryThreads) {
    const int channel = i % each * kEach;
    const real* const x = args.x + first + i / each * d + channel;
    Few y = few(x);
    if (channel < r) {
      const bool upper = channel >= half;
      const int j = upper ? channel - half : channel;
      const Few other = few(upper ? x - half : x + half), c = few(turns + j),
                s = few(turns + half + j);
      const real sign = upper == args.back ? real(1) : real(-1);
      unrolled<kEach>([&](int k) { y.v[k] = y.v[k] * c.v[k] - sign * s.v[k] * other.v[k]; });
    }
    *reinterpret_cast<Few*>(args.y + first + i / each * d + channel) = y;
  }
}

}  // namespace

Tensor pack_heads(Cuda cuda, const AttentionForward& args, const real* x, int64_t rows,
                  real factor) {
  Tensor packed;
  with_attention(cuda, args.d, [&](auto mode, auto D) {
    using Mode = decltype(mode);
    using Element = typename Mode::Element;
    const int64_t all = padded(rows), reals = all * D() * int64_t{sizeof(Element)} / 4;
    packed = Tensor(cuda.context, Shape{args.B, args.H, reals});
    const Pack<Element> pack{x,
                             reinterpret_cast<Element*>(packed.data()),
                             static_cast<int>(rows),
                             static_cast<int>(all),
                             static_cast<int>(args.H),
                             static_cast<int>(args.d),
                             D(),
                             static_cast<float>(factor),
                             args.d % Quad::kCount == 0 && quads_aligned(x)};
    start(cuda, "attention_pack", attention_pack_kernel<Mode>,
          {.blocks = args.B * all, .threads = kPackThreads}, pack);
  });
  return packed;
}

}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const AttentionForward& args) {
  constexpr int64_t kMost = INT32_MAX / 2;
  return !kDouble && args.d <= kWidestHead && args.S < kMost && args.H * kWidestHead < kMost &&
         args.B * padded(args.S) < kMost && args.B * args.H * padded(args.S) / 64 < kMost;
}

void run(Cuda cuda, const AttentionForward& args) {
  if (args.T <= kFewQueries) return attend_few(cuda, args);
  const Tensor q = pack_heads(cuda, args, args.q, args.T, args.scale * kLog2e),
               k = pack_heads(cuda, args, args.k, args.S, 1),
               v = pack_heads(cuda, args, args.v, args.S, 1);
  with_attention(cuda, args.d, [&](auto mode, auto D) {
    using Mode = decltype(mode);
    const auto elements = [](const Tensor& x) {
      return reinterpret_cast<const typename Mode::Element*>(x.data());
    };
    const HeadPanels<Mode> panels{
        .q = elements(q), .k = elements(k), .v = elements(v), .dy = nullptr, .rows = nullptr};
    const int64_t blocks = ceil_div(args.T, AttentionBlock<Mode, D()>::kRows);
    start(cuda, "attention_forward", attention_forward_kernel<Mode, D()>,
          {.blocks = args.B * args.H * blocks,
           .threads = AttentionBlock<Mode, D()>::kThreads,
           .shared_bytes = ForwardBlock<Mode, D()>::kBytes},
          args, panels, static_cast<int>(blocks));
  });
}

void run(Cuda cuda, const RotaryTurns& args) {
  const int64_t half = args.r / 2;
  for_each(cuda, "rotary_turns", args.T * half, [args, half] __device__(int64_t i) {
    const int64_t t = i / half, j = i % half;
    const double rate = ::pow(args.base, -2 * static_cast<double>(j) / static_cast<double>(args.r));
    double sine, cosine;
    ::sincos(static_cast<double>(args.first + t) * rate, &sine, &cosine);
    args.turns[t * args.r + j] = static_cast<real>(cosine);
    args.turns[t * args.r + half + j] = static_cast<real>(sine);
  });
}

void run(Cuda cuda, const Rotary& args) {
  const bool quads = args.d % Quad::kCount == 0 && args.r / 2 % Quad::kCount == 0 &&
                     quads_aligned(args.x, args.turns, args.y);
  start(cuda, "rotary", quads ? rotary_kernel<Quad::kCount> : rotary_kernel<1>,
        {.blocks = args.B * args.T, .threads = kRotaryThreads}, args);
}

}  // namespace fprnn
