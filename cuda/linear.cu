// Weights put together, normalised where they are (ops/linear.h). Forward a warp takes a row of an output:
// it reads the source's row for its length, and then from the cache what it needs of it. Backward
// it takes a row of a source, whose cotangent is what the blocks that have it say, 0 beside them.
#include <fprnn/cuda/fp_mamba_token.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/linear.h>

#include <limits>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr real kShortest = std::numeric_limits<real>::min();  // a length is at least this

__device__ __forceinline__ int64_t row_of_warp() {
  return int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
}
Grid rows_by_warps(int64_t rows) {
  return {.blocks = ceil_div(rows, kThreads / kWarp), .threads = kThreads};
}

// Which sources, with all their blocks, are read and written in quads.
struct InQuads {
  bool source[AssembleWeights::kMost];
};

// (columns) of a source's row from a column on. Here and below W neighbours are a pack.
template <int W>
__device__ void make_row(const AssembleWeights::Source& source, int64_t row, int64_t column,
                         int64_t columns, real* to) {
  const Pack<W>* direction = packs<W>(source.direction + row * source.K);
  real factor = 1;
  if (source.magnitude != nullptr) {
    real squares = 0;
#pragma unroll 4
    for (int64_t i = lane_of(); i < source.K / W; i += kWarp) {
      const Pack<W> v = direction[i];
#pragma unroll
      for (int j = 0; j < W; ++j) squares += v.v[j] * v.v[j];
    }
    factor = source.magnitude[row] * inverse_length(warp_sum(squares), kShortest);
  }
#pragma unroll 4
  for (int64_t i = lane_of(); i < columns / W; i += kWarp) {
    Pack<W> v = direction[column / W + i];
#pragma unroll
    for (int j = 0; j < W; ++j) v.v[j] *= factor;
    packs<W>(to)[i] = v;
  }
}

__global__ void __launch_bounds__(kThreads)
    assemble_weights_forward_kernel(const AssembleWeights args, const InQuads quads) {
  int64_t row = row_of_warp();
  int i = 0;
  while (i < args.block_count && row >= args.blocks[i].rows) row -= args.blocks[i++].rows;
  if (i == args.block_count) return;
  const AssembleWeights::Block& block = args.blocks[i];
  real* const to = block.at + row * block.columns;
  if (block.source < 0) {
    for (int64_t k = lane_of(); k < block.columns; k += kWarp) to[k] = 0;
    return;
  }
  const AssembleWeights::Source& source = args.sources[block.source];
  if (quads.source[block.source])
    make_row<Quad::kCount>(source, block.row + row, block.column, block.columns, to);
  else
    make_row<1>(source, block.row + row, block.column, block.columns, to);
}

// Of pack i of a source's row: the sum over the blocks that have it.
template <int W>
__device__ __forceinline__ Pack<W> row_cotangent(const AssembleWeights& args, int source,
                                                 int64_t row, int64_t i) {
  Pack<W> sum{};
  for (int k = 0; k < args.block_count; ++k) {
    const AssembleWeights::Block& block = args.blocks[k];
    const int64_t r = row - block.row, c = i * W - block.column;
    if (block.source != source || r < 0 || r >= block.rows || c < 0 || c >= block.columns) continue;
    const Pack<W> more = *packs<W>(block.at + r * block.columns + c);
#pragma unroll
    for (int j = 0; j < W; ++j) sum.v[j] += more.v[j];
  }
  return sum;
}

template <int W>
__device__ void unmake_row(const AssembleWeights& args, int which, int64_t row) {
  const AssembleWeights::Source& source = args.sources[which];
  const int64_t K = source.K / W;
  const Pack<W>* direction = packs<W>(source.direction + row * source.K);
  real factor = 1, pull = 0;
  if (source.magnitude != nullptr) {
    real squares = 0, along = 0;
#pragma unroll 4
    for (int64_t i = lane_of(); i < K; i += kWarp) {
      const Pack<W> v = direction[i], dw = row_cotangent<W>(args, which, row, i);
#pragma unroll
      for (int j = 0; j < W; ++j) {
        squares += v.v[j] * v.v[j];
        along += v.v[j] * dw.v[j];
      }
    }
    const real inverse = inverse_length(warp_sum(squares), kShortest);
    along = inverse * warp_sum(along);
    factor = source.magnitude[row] * inverse;
    pull = inverse * normal_part(inverse, kShortest, along);
    if (lane_of() == 0 && source.dmagnitude != nullptr) source.dmagnitude[row] = along;
  }
  if (source.ddirection == nullptr) return;
#pragma unroll 4
  for (int64_t i = lane_of(); i < K; i += kWarp) {
    const Pack<W> v = direction[i];
    Pack<W> dv = row_cotangent<W>(args, which, row, i);
#pragma unroll
    for (int j = 0; j < W; ++j) dv.v[j] = factor * (dv.v[j] - pull * v.v[j]);
    packs<W>(source.ddirection + row * source.K)[i] = dv;
  }
}

__global__ void __launch_bounds__(kThreads)
    assemble_weights_backward_kernel(const AssembleWeights args, const InQuads quads) {
  int64_t row = row_of_warp();
  int i = 0;
  while (i < args.source_count && row >= args.sources[i].N) row -= args.sources[i++].N;
  if (i == args.source_count) return;
  if (quads.source[i])
    unmake_row<Quad::kCount>(args, i, row);
  else
    unmake_row<1>(args, i, row);
}

InQuads in_quads(const AssembleWeights& args) {
  constexpr int kWidth = Quad::kCount;
  InQuads quads{};
  for (int i = 0; i < args.source_count; ++i)
    quads.source[i] = args.sources[i].K % kWidth == 0 &&
                      quads_aligned(args.sources[i].direction, args.sources[i].ddirection);
  for (int i = 0; i < args.block_count; ++i) {
    const AssembleWeights::Block& block = args.blocks[i];
    if (block.source >= 0)
      quads.source[block.source] &=
          block.columns % kWidth == 0 && block.column % kWidth == 0 && quads_aligned(block.at);
  }
  return quads;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const AssembleWeightsForward&) { return true; }

void run(Cuda cuda, const AssembleWeightsForward& args) {
  const AssembleWeights& weights = args.weights;
  int64_t rows = 0;
  for (int i = 0; i < weights.block_count; ++i) rows += weights.blocks[i].rows;
  start(cuda, "assemble_weights_forward", assemble_weights_forward_kernel, rows_by_warps(rows),
        weights, in_quads(weights));
}

void run(Cuda cuda, const AssembleWeightsBackward& args) {
  const AssembleWeights& weights = args.weights;
  int64_t rows = 0;
  for (int i = 0; i < weights.source_count; ++i) rows += weights.sources[i].N;
  start(cuda, "assemble_weights_backward", assemble_weights_backward_kernel, rows_by_warps(rows),
        weights, in_quads(weights));
}

}  // namespace fprnn
