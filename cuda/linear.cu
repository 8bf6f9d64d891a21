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

constexpr int kRows = 4;                                      // of a block
constexpr real kShortest = std::numeric_limits<real>::min();  // a length is at least this

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
      unrolled<W>([&](int j) { squares += v.v[j] * v.v[j]; });
    }
    const real* const own = source.direction + row * source.K;
    factor = source.magnitude[row] * inverse_length(warp_sum(squares), kShortest, source.K,
                                                    [&](int64_t i) { return own[i]; });
  }
#pragma unroll 4
  for (int64_t i = lane_of(); i < columns / W; i += kWarp) {
    Pack<W> v = direction[column / W + i];
    unrolled<W>([&](int j) { v.v[j] *= factor; });
    packs<W>(to)[i] = v;
  }
}

__global__ void __launch_bounds__(kRows* kWarp)
    assemble_weights_forward_kernel(const AssembleWeights args, const InQuads quads) {
  int64_t row = row_of_warp<kRows>();
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
  with_quads(quads.source[block.source], [&](auto width) {
    make_row<width()>(source, block.row + row, block.column, block.columns, to);
  });
}

// What blocks of the outputs say of a source's row: their cotangents of it and the columns that they have.
struct RowBlocks {
  const real* of[AssembleWeights::kMost];
  int64_t begin[AssembleWeights::kMost], columns[AssembleWeights::kMost];
  int count;

  // By the lanes of a warp, in the order of the blocks.
  __device__ __forceinline__ void find(const AssembleWeights& args, int source, int64_t row) {
    static_assert(AssembleWeights::kMost <= kWarp);
    const int lane = lane_of();
    const AssembleWeights::Block& block = args.blocks[lane < args.block_count ? lane : 0];
    const int64_t r = row - block.row;
    const bool has = lane < args.block_count && block.source == source && r >= 0 && r < block.rows;
    const unsigned all = __ballot_sync(kAllLanes, has);
    if (has) {
      const int place = __popc(all & ((1u << lane) - 1));
      of[place] = block.at + r * block.columns;
      begin[place] = block.column;
      columns[place] = block.columns;
    }
    if (lane == 0) count = __popc(all);
    __syncwarp();
  }
};

// visit(i, pack, cotangent) for the lane's packs of a source's row, several of them on their way at
// a time. The cotangent is the sum over the blocks that have the pack.
template <int W, class Visit>
__device__ __forceinline__ void each_pack(const real* direction, int64_t K, const RowBlocks& blocks,
                                          const Visit& visit) {
  constexpr int kTogether = 4;
  const int64_t count = K / W;
  for (int64_t first = lane_of(); first < count; first += kTogether * kWarp) {
    Pack<W> v[kTogether], dw[kTogether]{};
    unrolled<kTogether>([&](int k) {
      if (first + k * kWarp < count) v[k] = packs<W>(direction)[first + k * kWarp];
    });
    for (int b = 0; b < blocks.count; ++b) {
      Pack<W> more[kTogether]{};
      unrolled<kTogether>([&](int k) {
        const int64_t column = (first + k * kWarp) * W - blocks.begin[b];
        if (column >= 0 && column < blocks.columns[b]) more[k] = *packs<W>(blocks.of[b] + column);
      });
      unrolled<kTogether>([&](int k) { unrolled<W>([&](int j) { dw[k].v[j] += more[k].v[j]; }); });
    }
    unrolled<kTogether>([&](int k) {
      if (first + k * kWarp < count) visit(first + k * kWarp, v[k], dw[k]);
    });
  }
}

template <int W>
__device__ void unmake_row(const AssembleWeights& args, int which, int64_t row, RowBlocks& blocks) {
  const AssembleWeights::Source& source = args.sources[which];
  const int64_t K = source.K;
  const real* direction = source.direction + row * K;
  blocks.find(args, which, row);
  real factor = 1, pull = 0;
  if (source.magnitude != nullptr) {
    real squares = 0, along = 0;
    each_pack<W>(direction, K, blocks, [&](int64_t, const Pack<W>& v, const Pack<W>& dw) {
      unrolled<W>([&](int j) {
        squares += v.v[j] * v.v[j];
        along += v.v[j] * dw.v[j];
      });
    });
    const real inverse =
        inverse_length(warp_sum(squares), kShortest, K, [&](int64_t i) { return direction[i]; });
    along = inverse * warp_sum(along);
    if (!(magnitude(along) <= kMostSquares)) {  // it overflowed on the way
      along = 0;
      each_pack<W>(direction, K, blocks, [&](int64_t, const Pack<W>& v, const Pack<W>& dw) {
        unrolled<W>([&](int j) { along += inverse * v.v[j] * dw.v[j]; });
      });
      along = warp_sum(along);
    }
    factor = source.magnitude[row] * inverse;
    pull = inverse * normal_part(inverse, kShortest, along);
    if (lane_of() == 0 && source.dmagnitude != nullptr) source.dmagnitude[row] = along;
  }
  if (source.ddirection == nullptr) return;
  Pack<W>* const to = packs<W>(source.ddirection + row * K);
  each_pack<W>(direction, K, blocks, [&](int64_t i, const Pack<W>& v, Pack<W> dw) {
    unrolled<W>([&](int j) { dw.v[j] = factor * (dw.v[j] - pull * v.v[j]); });
    to[i] = dw;
  });
}

__global__ void __launch_bounds__(kRows* kWarp)
    assemble_weights_backward_kernel(const AssembleWeights args, const InQuads quads) {
  __shared__ RowBlocks blocks[kRows];
  int64_t row = row_of_warp<kRows>();
  int i = 0;
  while (i < args.source_count && row >= args.sources[i].N) row -= args.sources[i++].N;
  if (i == args.source_count) return;
  RowBlocks& own = blocks[threadIdx.x / kWarp];
  with_quads(quads.source[i], [&](auto width) { unmake_row<width()>(args, i, row, own); });
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
  start(cuda, "assemble_weights_forward", assemble_weights_forward_kernel,
        rows_by_warps<kRows>(rows), weights, in_quads(weights));
}

void run(Cuda cuda, const AssembleWeightsBackward& args) {
  const AssembleWeights& weights = args.weights;
  int64_t rows = 0;
  for (int i = 0; i < weights.source_count; ++i) rows += weights.sources[i].N;
  start(cuda, "assemble_weights_backward", assemble_weights_backward_kernel,
        rows_by_warps<kRows>(rows), weights, in_quads(weights));
}

}  // namespace fprnn
