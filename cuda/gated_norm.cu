// A block takes a row and has it in registers (cuda/row.cuh). Backward it takes a piece of neighbouring
// rows, one after the other, the next on its way meanwhile: the gradients of weight and bias add up
// in registers and are one share a piece, which a second kernel adds. Bound by memory.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/row.cuh>
#include <fprnn/ops/elementwise_functions.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/norm_statistics.h>

namespace fprnn {

namespace cuda {
namespace {

// What the gate lets through of x (D) at `from` on.
template <int W>
__device__ __forceinline__ void load_gated(const real* x, const real* z, int64_t D,
                                           OwnChannels& v) {
  RowPacks<W>::load(D, x, v);
  if (z == nullptr) return;
  OwnChannels gate;
  RowPacks<W>::load(D, z, gate);
  unrolled<kOwn>([&](int k) { v[k] *= Silu().value(gate[k]); });
}

// A row in registers, as norm_statistics.h takes it; the block meets in two spaces by turns.
template <int W>
struct RegisterRow {
  const OwnChannels& v;
  int64_t D;
  RowSpace<1> (&spaces)[2];
  mutable int turn = 0;

  template <class Map, class Combine>
  __device__ __forceinline__ real reduce(const Map& map, const Combine& combine) const {
    real total[1]{};
    RowPacks<W>::each(D, [&](int k, int) {
      unrolled<W>([&](int j) { total[0] = combine(total[0], map(v[k * W + j])); });
    });
    reduce_row(total, spaces[turn], combine);
    turn ^= 1;
    return total[0];
  }
  template <class Map>
  __device__ __forceinline__ real sum(const Map& map) const {
    return reduce(map, Plus());
  }
  template <class Map>
  __device__ __forceinline__ real squares(const Map& map) const {
    return sum([&](real x) { return map(x) * map(x); });
  }
  template <class Map>
  __device__ __forceinline__ real largest(const Map& map) const {
    return reduce([&](real x) { return magnitude(map(x)); }, Larger());
  }
};

// kCentred: a LayerNorm; else RMS, without bias.
template <bool kCentred, int W>
__global__ void __launch_bounds__(kRowThreads)
    gated_norm_forward_kernel(const GatedNormForward args) {
  __shared__ RowSpace<1> spaces[2];
  const int64_t row = blockIdx.x, D = args.D, first = row * D;
  OwnChannels v, weight, bias;
  load_gated<W>(args.x + first, args.z == nullptr ? nullptr : args.z + first, D, v);
  RowPacks<W>::load(D, args.weight, weight);
  if constexpr (kCentred) RowPacks<W>::load(D, args.bias, bias);
  const RowStatistics s =
      statistics_of(kCentred ? Norm::layer : Norm::rms, RegisterRow<W>{v, D, spaces}, D, args.eps);
  unrolled<kOwn>([&](int k) {
    v[k] = s.normal(v[k]) * weight[k];
    if constexpr (kCentred) v[k] += bias[k];
  });
  RowPacks<W>::store(D, v, args.y + first);
  if (args.statistics != nullptr && threadIdx.x == 0) {
    args.statistics[2 * row] = s.center + s.rest;
    args.statistics[2 * row + 1] = s.scale;
  }
  if (args.residual == nullptr) return;
  __shared__ RowSpace<2> of_largest;
  OwnChannels before;
  RowPacks<W>::load(D, args.before + first, before);
  real largest[2]{};  // difference and size
  RowPacks<W>::each(D, [&](int k, int) {
    unrolled<W>([&](int j) {
      const real y = v[k * W + j];
      largest[0] = Larger()(magnitude(y - before[k * W + j]), largest[0]);
      largest[1] = Larger()(magnitude(y), largest[1]);
    });
  });
  reduce_row(largest, of_largest, Larger());
  if (threadIdx.x == 0)
    args.residual[row] = largest[0] / (largest[1] + static_cast<real>(kResidualFloor));
}

// A row on its way. Without a gate z is not touched.
template <bool kGated, int W>
struct GatedRow {
  OwnChannels x, z, dy;
  __device__ __forceinline__ void load(const GatedNormBackward& args, int64_t row) {
    RowPacks<W>::load(args.D, args.x + row * args.D, x);
    if constexpr (kGated) RowPacks<W>::load(args.D, args.z + row * args.D, z);
    RowPacks<W>::load(args.D, args.dy + row * args.D, dy);
  }
};

// shares: (2, pieces, D), of dweight and of dbias, or null.
template <bool kCentred, bool kGated, int W>
__global__ void __launch_bounds__(kRowThreads)
    gated_norm_backward_kernel(const GatedNormBackward args, int64_t piece, real* shares) {
  __shared__ RowSpace<2> spaces[2];
  const int64_t D = args.D, begin = blockIdx.x * piece, end = min(args.rows, begin + piece);
  OwnChannels weight, dweight{}, dbias{};
  RowPacks<W>::load(D, args.weight, weight);
  GatedRow<kGated, W> next;
  next.load(args, begin);
  for (int64_t row = begin; row < end; ++row) {
    const GatedRow<kGated, W> now = next;
    if (row + 1 < end) next.load(args, row + 1);
    const real mean = args.statistics[2 * row], scale = args.statistics[2 * row + 1];
    OwnChannels n;
    real sums[2]{};
    unrolled<kOwn>([&](int k) {
      real v = now.x[k];
      if constexpr (kGated) v *= Silu().value(now.z[k]);
      n[k] = (v - mean) * scale;
      const real g = weight[k] * now.dy[k];
      sums[0] += g;
      sums[1] += g * n[k];
      dweight[k] += now.dy[k] * n[k];
      dbias[k] += now.dy[k];
    });
    sum_row(sums, spaces[row % 2]);
    const real shift = kCentred ? sums[0] / D : real(0), pull = sums[1] / D;
    unrolled<kOwn>([&](int k) { n[k] = scale * (weight[k] * now.dy[k] - shift - n[k] * pull); });
    if constexpr (kGated) {
      OwnChannels dz;
      unrolled<kOwn>([&](int k) {
        dz[k] = n[k] * now.x[k] * Silu().slope(now.z[k]);
        n[k] *= Silu().value(now.z[k]);
      });
      if (args.dz != nullptr) RowPacks<W>::store(D, dz, args.dz + row * D);
    }
    RowPacks<W>::store(D, n, args.dx + row * D);
  }
  if (shares == nullptr) return;
  RowPacks<W>::store(D, dweight, shares + blockIdx.x * D);
  RowPacks<W>::store(D, dbias, shares + (gridDim.x + blockIdx.x) * D);
}

// 8 columns a block, 32 neighbouring bytes, whose threads go through the shares in turns with
// several on their way. Then a warp adds up what the threads of one column have, in an order of its
// own.
constexpr int kSumThreads = 1024, kSumColumns = 8, kSumRows = kSumThreads / kSumColumns;
__global__ void __launch_bounds__(kSumThreads)
    gated_norm_parameters_kernel(const GatedNormBackward args, int64_t pieces, int64_t tiles,
                                 const real* shares) {
  __shared__ real totals[kSumColumns][kSumRows + 1];
  constexpr int kAtOnce = 8;
  const int own = threadIdx.x % kSumColumns, row = threadIdx.x / kSumColumns;
  const int64_t which = blockIdx.x / tiles, first = blockIdx.x % tiles * kSumColumns;
  const bool inside = first + own < args.D;
  const real* from = shares + which * pieces * args.D + first + own;
  real total = 0;
  for (int64_t begin = row; begin < pieces; begin += kAtOnce * kSumRows) {
    real some[kAtOnce];
    unrolled<kAtOnce>([&](int k) {
      const int64_t i = begin + k * kSumRows;
      some[k] = inside && i < pieces ? from[i * args.D] : real(0);
    });
    unrolled<kAtOnce>([&](int k) { total += some[k]; });
  }
  totals[own][row] = total;
  __syncthreads();
  const int lane = threadIdx.x % kWarp, column = threadIdx.x / kWarp;
  if (column >= kSumColumns || first + column >= args.D) return;
  total = 0;
#pragma unroll
  for (int i = 0; i < kSumRows; i += kWarp) total += totals[column][i + lane];
  total = warp_sum(total);
  if (lane == 0) (which == 0 ? args.dweight : args.dbias)[first + column] = total;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const GatedNormForward& args) { return args.D <= kMostOfRow; }

void run(Cuda cuda, const GatedNormForward& args) {
  const bool aligned = quads_aligned(args.x, args.z, args.weight, args.bias, args.y, args.before);
  with_width(args.D, aligned, [&](auto width) {
    const auto kernel = args.bias != nullptr ? gated_norm_forward_kernel<true, width()>
                                             : gated_norm_forward_kernel<false, width()>;
    start(cuda, "gated_norm_forward", kernel, {.blocks = args.rows, .threads = row_threads(args.D)},
          args);
  });
}

void run(Cuda cuda, const GatedNormBackward& args) {
  // Pieces as many as keep a GPU busy, by sizes alone.
  constexpr int64_t kBusyThreads = 3072 * kWarp;
  const int threads = row_threads(args.D);
  const int64_t piece = std::max<int64_t>(1, ceil_div(args.rows, kBusyThreads / threads));
  const int64_t pieces = ceil_div(args.rows, piece);
  const bool parameters = args.dweight != nullptr;
  const Tensor shares = parameters ? Tensor(cuda.context, Shape{2, pieces, args.D}) : Tensor();
  real* const of_pieces = parameters ? shares.data() : nullptr;
  const bool aligned = quads_aligned(args.x, args.z, args.weight, args.dy, args.dx, args.dz) &&
                       quads_aligned(of_pieces);
  with_width(args.D, aligned, [&](auto width) {
    const auto kernel =
        args.bias != nullptr
            ? (args.z != nullptr ? gated_norm_backward_kernel<true, true, width()>
                                 : gated_norm_backward_kernel<true, false, width()>)
            : (args.z != nullptr ? gated_norm_backward_kernel<false, true, width()>
                                 : gated_norm_backward_kernel<false, false, width()>);
    start(cuda, "gated_norm_backward", kernel, {.blocks = pieces, .threads = threads}, args, piece,
          of_pieces);
  });
  if (!parameters) return;
  const int64_t tiles = ceil_div(args.D, kSumColumns);
  start(cuda, "gated_norm_parameters", gated_norm_parameters_kernel,
        {.blocks = (args.bias != nullptr ? 2 : 1) * tiles, .threads = kSumThreads}, args, pieces,
        tiles, static_cast<const real*>(of_pieces));
}

}  // namespace fprnn
