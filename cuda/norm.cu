// A row belongs to one warp, or to a block of eight where rows are long: sums of it are by lanes first.
// Rows are read from memory once and then from the cache. Parameter gradients are a second kernel's
// sums over pieces of rows, a column a thread, from the statistics that the first one leaves.
// Bytes bound all of it.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/reduce.cuh>
#include <fprnn/ops/norm_statistics.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLongRow = 2048;  // from here on a block takes one
constexpr int64_t kPiece = 64;      // rows that a parameter's gradient is summed over at once

// Which row a thread works on, and its share of it.
template <bool kLong>
struct Place {
  int64_t row, first;
  static constexpr int kStride = kLong ? kThreads : kWarp;
  __device__ Place() {
    if constexpr (kLong) {
      row = blockIdx.x;
      first = threadIdx.x;
    } else {
      row = row_of_warp();
      first = threadIdx.x % kWarp;
    }
  }
  __device__ real sum(real x, real* shared) const {
    if constexpr (kLong) return block_sum(x, shared);
    return warp_sum(x);
  }
  __device__ real largest(real x, real* shared) const {  // of numbers that are not negative
    if constexpr (kLong) return block_max(x, shared);
    return warp_max(x);
  }
};
template <bool kLong>
Grid grid_for(int64_t rows) {
  return kLong ? Grid{.blocks = rows, .threads = kThreads} : rows_by_warps(rows);
}

// A row in memory, as norm_statistics.h takes it.
template <bool kLong>
struct MemoryRow {
  const Place<kLong>& at;
  const real* x;
  int64_t D;
  real* shared;

  template <class Map>
  __device__ real sum(const Map& map) const {
    real total = 0;
    for (int64_t i = at.first; i < D; i += at.kStride) total += map(x[i]);
    return at.sum(total, shared);
  }
  template <class Map>
  __device__ real squares(const Map& map) const {
    real total = 0;
    for (int64_t i = at.first; i < D; i += at.kStride) {
      const real value = map(x[i]);
      total += value * value;
    }
    return at.sum(total, shared);
  }
  template <class Map>
  __device__ real largest(const Map& map) const {
    real most = 0;
    for (int64_t i = at.first; i < D; i += at.kStride) most = Larger()(magnitude(map(x[i])), most);
    return at.largest(most, shared);
  }
};

template <bool kLong>
__global__ void norm_forward_kernel(NormForward args) {
  __shared__ real shared[kWarp];
  const Place<kLong> at;
  if (at.row >= args.rows) return;
  const real* x = args.x + at.row * args.D;
  real* y = args.y + at.row * args.D;
  const RowStatistics s =
      statistics_of(args.norm, MemoryRow<kLong>{at, x, args.D, shared}, args.D, args.eps);
  for (int64_t i = at.first; i < args.D; i += at.kStride) {
    real value = s.normal(x[i]);
    if (args.weight != nullptr) value *= args.weight[i];
    if (args.bias != nullptr) value += args.bias[i];
    y[i] = value;
  }
}

// dx, and each row's statistics.
template <bool kLong>
__global__ void norm_backward_kernel(NormBackward args, RowStatistics* statistics) {
  __shared__ real shared[kWarp];
  const Place<kLong> at;
  if (at.row >= args.rows) return;
  const real* x = args.x + at.row * args.D;
  const real* dy = args.dy + at.row * args.D;
  const RowStatistics s =
      statistics_of(args.norm, MemoryRow<kLong>{at, x, args.D, shared}, args.D, args.eps);
  const auto weighted = [&](int64_t i) {
    return args.weight != nullptr ? dy[i] * args.weight[i] : dy[i];
  };
  real sum_g = 0, sum_gn = 0;
  for (int64_t i = at.first; i < args.D; i += at.kStride) {
    const real g = weighted(i);
    sum_g += g;
    sum_gn += g * s.normal(x[i]);
  }
  const real shift = args.norm == Norm::layer ? at.sum(sum_g, shared) / args.D : 0;
  const real pull = s.pull * at.sum(sum_gn, shared);
  for (int64_t i = at.first; i < args.D; i += at.kStride) {
    const real n = s.normal(x[i]);
    real& dx = args.dx[at.row * args.D + i];
    // Rounded before it is added, as if it were added by others.
    dx = unfused(args.accumulate ? dx : real(0), s.scale, weighted(i) - shift - n * pull);
  }
  if (at.first == 0) statistics[at.row] = s;
}

// Warps of a block go through a piece's rows in turns; their sums are added in the order of warps.
constexpr int kRowLanes = kThreads / kWarp;
__global__ void norm_parameters_kernel(NormBackward args, const RowStatistics* statistics,
                                       int64_t columns, real* dweight, real* dbias) {
  __shared__ real shared[2][kRowLanes][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t piece = blockIdx.x / columns, d = blockIdx.x % columns * kWarp + lane;
  const int64_t begin = piece * kPiece, end = min(args.rows, begin + kPiece);
  real weight = 0, bias = 0;
  if (d < args.D)
#pragma unroll
    for (int64_t k = 0; k < kPiece; k += kRowLanes) {
      const int64_t row = begin + k + warp;
      const bool exists = row < end;
      const real dy = exists ? args.dy[row * args.D + d] : real(0);
      const real x = exists ? args.x[row * args.D + d] : real(0);
      const RowStatistics s = exists ? statistics[row] : RowStatistics{};
      weight += dy * s.normal(x);
      bias += dy;
    }
  shared[0][warp][lane] = weight;
  shared[1][warp][lane] = bias;
  __syncthreads();
  if (warp > 1 || d >= args.D) return;
  real* out = warp == 0 ? dweight : dbias;
  if (out == nullptr) return;
  real total = 0;
  for (int i = 0; i < kRowLanes; ++i) total += shared[warp][i][lane];
  out[piece * args.D + d] = total;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const NormForward& args) {
  if (args.D >= kLongRow)
    start(cuda, "norm_forward", norm_forward_kernel<true>, grid_for<true>(args.rows), args);
  else
    start(cuda, "norm_forward", norm_forward_kernel<false>, grid_for<false>(args.rows), args);
}

void run(Cuda cuda, const NormBackward& args) {
  const Tensor of_rows(cuda.context, Shape{args.rows, sizeof(RowStatistics) / sizeof(real)});
  auto* const statistics = reinterpret_cast<RowStatistics*>(of_rows.data());
  if (args.D >= kLongRow)
    start(cuda, "norm_backward", norm_backward_kernel<true>, grid_for<true>(args.rows), args,
          statistics);
  else
    start(cuda, "norm_backward", norm_backward_kernel<false>, grid_for<false>(args.rows), args,
          statistics);
  if (args.dweight == nullptr) return;
  const int64_t pieces = ceil_div(args.rows, kPiece), columns = ceil_div(args.D, kWarp);
  const Tensor shares(cuda.context, Shape{2, pieces, args.D});
  real* const dweight = shares.data();
  real* const dbias = args.dbias != nullptr ? dweight + pieces * args.D : nullptr;
  start(cuda, "norm_parameters", norm_parameters_kernel,
        {.blocks = pieces * columns, .threads = kThreads}, args, statistics, columns, dweight,
        dbias);
  const auto sum = [&](const real* x, real* y) {
    return SumMiddle{.x = x, .y = y, .outer = 1, .middle = pieces, .inner = args.D};
  };
  std::vector<SumMiddle> sums{sum(dweight, args.dweight)};
  if (dbias != nullptr) sums.push_back(sum(dbias, args.dbias));
  sum_together(cuda, sums);
}

}  // namespace fprnn
