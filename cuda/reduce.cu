// Sums over the middle axis of (outer, middle, inner), and their transpose. Both read or write every
// element once and are bound by memory.
//
// A block of 256 threads is (outers, rows, columns): `columns` neighbours of the inner axis, each summed
// by `rows` threads that take every rows-th element of the middle axis, for `outers` indices. A
// warp reads neighbours: where the inner axis is short, of the middle axis too. The threads' sums
// meet in shared memory, halving the rows each time. A long middle axis is divided into pieces,
// whose sums go to scratch memory and are summed in the same way. Sizes alone decide all of this,
// so a sum's bits depend on nothing else.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/cuda/reduce.cuh>
#include <fprnn/ops/reduce.h>

#include <bit>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kSumThreads = 256;
constexpr int64_t kDepth = 32;  // elements of a piece that a thread adds up
constexpr int kAtOnce = 16;     // of them that are on their way

struct SumPlan {
  int outers, rows, columns;  // of a block: powers of two, 256 together
  int64_t tiles;              // of columns along the inner axis
  int64_t pieces, length;     // of the middle axis
};

// Several sums, whose blocks follow one another.
struct SumList {
  static constexpr int kMost = 6;
  struct Sum {
    SumMiddle args;
    SumPlan plan;
    real* y;      // of the pieces, or args.y
    int64_t end;  // behind its last block
  };
  Sum sums[kMost];
  int count;
};

__global__ void __launch_bounds__(kSumThreads) sum_middle_kernel(const SumList list) {
  __shared__ real totals[kSumThreads];
  int which = 0;
  while (blockIdx.x >= list.sums[which].end) ++which;
  const SumMiddle& args = list.sums[which].args;
  const SumPlan& plan = list.sums[which].plan;
  real* const y = list.sums[which].y;
  const int64_t number = blockIdx.x - (which == 0 ? 0 : list.sums[which - 1].end);
  const int thread = threadIdx.x, row = thread / plan.columns % plan.rows;
  const int64_t block = number / plan.tiles, piece = block % plan.pieces;
  const int64_t outer = block / plan.pieces * plan.outers + thread / (plan.columns * plan.rows);
  const int64_t column = number % plan.tiles * plan.columns + thread % plan.columns;
  const bool inside = outer < args.outer && column < args.inner;

  real total = 0;
  if (inside) {
    const int64_t begin = piece * plan.length, left = args.middle - begin;
    const int64_t length = left < plan.length ? left : plan.length;
    const real* x = args.x + (outer * args.middle + begin) * args.inner + column;
    for (int64_t first = row; first < length; first += kAtOnce * plan.rows) {
      real some[kAtOnce];
      unrolled<kAtOnce>([&](int k) {
        const int64_t i = first + k * plan.rows;
        some[k] = i < length ? x[i * args.inner] : real(0);
      });
      unrolled<kAtOnce>([&](int k) { total += some[k]; });
    }
  }
  totals[thread] = total;
  for (int distance = plan.rows / 2; distance > 0; distance /= 2) {
    __syncthreads();
    if (row < distance) totals[thread] += totals[thread + distance * plan.columns];
  }
  // What this thread wrote itself: the sum of all rows is where row 0 was.
  if (inside && row == 0) y[(outer * plan.pieces + piece) * args.inner + column] = totals[thread];
}

int64_t power_of_two(int64_t count) { return std::bit_ceil(static_cast<uint64_t>(count)); }

// Rows are as many as make a warp read neighbours, and then as many as leave each thread eight elements.
// The rest of the block takes other outer indices or, where those are few, more columns.
SumPlan plan_sum(const SumMiddle& args) {
  const int64_t narrow = std::min<int64_t>(kWarp, power_of_two(args.inner));
  const int64_t beside = std::min(kWarp / narrow, power_of_two(args.middle));
  const int64_t deep = power_of_two(ceil_div(args.middle, 8));
  const int64_t rows = std::min(kSumThreads / narrow, std::max(beside, deep));
  const int64_t outers = std::min(kSumThreads / (narrow * rows), power_of_two(args.outer));
  const int64_t columns = kSumThreads / (rows * outers);
  SumPlan plan{.outers = static_cast<int>(outers),
               .rows = static_cast<int>(rows),
               .columns = static_cast<int>(columns),
               .tiles = ceil_div(args.inner, columns),
               .pieces = 1,
               .length = args.middle};
  // A second kernel costs more than reading twice the depth.
  if (args.middle > 2 * kDepth * rows) {
    plan.length = kDepth * rows;
    plan.pieces = ceil_div(args.middle, plan.length);
  }
  return plan;
}

int64_t blocks_of(const SumMiddle& args, const SumPlan& plan) {
  return ceil_div(args.outer, plan.outers) * plan.pieces * plan.tiles;
}

template <int Width>
struct Repeat {
  const Pack<Width>* x;
  Pack<Width>* y;
  int64_t middle, inner;  // of packs
  __device__ void operator()(int64_t i) const {
    const int64_t row = i / inner;
    y[i] = x[row / middle * inner + (i - row * inner)];
  }
};

}  // namespace

void sum_together(Cuda cuda, const std::vector<SumMiddle>& sums) {
  std::vector<Tensor> of_pieces;
  std::vector<SumMiddle> rest;
  SumList list{};
  int64_t blocks = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    const SumMiddle& args = sums[i];
    const SumPlan plan = plan_sum(args);
    real* y = args.y;
    if (plan.pieces > 1) {
      of_pieces.emplace_back(cuda.context, Shape{args.outer, plan.pieces, args.inner});
      y = of_pieces.back().data();
      rest.push_back(
          {.x = y, .y = args.y, .outer = args.outer, .middle = plan.pieces, .inner = args.inner});
    }
    blocks += blocks_of(args, plan);
    list.sums[list.count++] = {args, plan, y, blocks};
    if (list.count < SumList::kMost && i + 1 < sums.size()) continue;
    start(cuda, "sum_middle", sum_middle_kernel, {.blocks = blocks, .threads = kSumThreads}, list);
    list.count = 0;
    blocks = 0;
  }
  if (!rest.empty()) sum_together(cuda, rest);
}

}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const SumMiddle& args) { sum_together(cuda, {args}); }

void run(Cuda cuda, const RepeatMiddle& args) {
  with_width(args.inner, quads_aligned(args.x, args.y), [&](auto width) {
    const int64_t inner = args.inner / width;
    for_each(cuda, "repeat_middle", args.outer * args.middle * inner,
             Repeat<width>{packs<width>(args.x), packs<width>(args.y), args.middle, inner});
  });
}

}  // namespace fprnn
