#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/tensor.h>
#include <fprnn/ops/matmul.h>

namespace fprnn {

FPRNN_KERNEL(int64_t gemm_workspace(const Gemm& args))
FPRNN_KERNEL(void gemm(const Gemm& args, real* workspace))

namespace {

// Columns are cut at multiples of the widest panel of gemm_kernel.cpp.
constexpr int64_t kColumnUnit = 32;
// Multiply-adds that are worth a thread: some microseconds.
constexpr int64_t kWorthAThread = 1 << 19;

// C in rows x columns pieces, one a thread. Pieces share nothing: each packs what it needs of A, B.
// An element's bits do not depend on its piece, so the pieces may depend on the number of threads.
struct Grid {
  int64_t rows, columns;              // of the grid
  int64_t piece_rows, piece_columns;  // of C
};

Grid grid_of(const Gemm& args, int64_t rows, int64_t columns) {
  return {.rows = rows,
          .columns = columns,
          .piece_rows = pieces(args.M, rows),
          .piece_columns = pieces(pieces(args.N, kColumnUnit), columns) * kColumnUnit};
}

// Work of the largest piece for each k, in multiply-adds: the product, packing of A and of B.
int64_t cost(const Grid& grid) {
  return grid.piece_rows * grid.piece_columns + 4 * grid.piece_rows + 10 * grid.piece_columns;
}

Grid best_grid(const Gemm& args, int64_t threads) {
  Grid best = grid_of(args, threads, 1);
  for (int64_t rows = 1; rows < threads; ++rows) {
    if (threads % rows != 0) continue;
    const Grid grid = grid_of(args, rows, threads / rows);
    if (cost(grid) < cost(best)) best = grid;
  }
  return best;
}

Gemm piece_of(const Gemm& args, const Grid& grid, int64_t piece) {
  const int64_t i = std::min(args.M, piece / grid.columns * grid.piece_rows);
  const int64_t j = std::min(args.N, piece % grid.columns * grid.piece_columns);
  Gemm part = args;
  part.M = std::min(grid.piece_rows, args.M - i);
  part.N = std::min(grid.piece_columns, args.N - j);
  part.a += args.transpose_a ? i : i * args.lda;
  part.b += args.transpose_b ? j * args.ldb : j;
  part.c += i * args.ldc + j;
  if (args.bias) part.bias += j;
  return part;
}

}  // namespace

void run(Cpu cpu, const Gemm& args) {
  if (args.M == 0 || args.N == 0) return;
  const auto kernel = FPRNN_SELECT(cpu, gemm);
  const int64_t worth = args.M * args.N * args.K / kWorthAThread;
  const int64_t threads = std::clamp<int64_t>(worth, 1, cpu.context.threads());
  const Grid grid = best_grid(args, threads);
  const int64_t size = FPRNN_SELECT(cpu, gemm_workspace)(piece_of(args, grid, 0));
  const Tensor workspace(cpu.context, Shape{threads * size});
  real* const space = workspace.data();
  parallel_pieces(cpu, threads, [&](int64_t piece) {
    kernel(piece_of(args, grid, piece), space + piece * size);
  });
}

void run(Cpu cpu, const BatchedGemm& args) {
  if (args.G == 0 || args.M == 0 || args.N == 0) return;
  const auto kernel = FPRNN_SELECT(cpu, gemm);
  const auto [M, N, K] = std::array{args.M, args.N, args.K};
  const Gemm first = contiguous_product(
      {args.a, args.transpose_a ? K : M, args.transpose_a ? M : K, args.transpose_a},
      {args.b, args.transpose_b ? N : K, args.transpose_b ? K : N, args.transpose_b}, args.c);
  const int64_t grain = std::max(grain_for(64 + args.M * args.N * args.K / 8),
                                 pieces(args.G, 4 * cpu.context.threads()));
  const int64_t size = FPRNN_SELECT(cpu, gemm_workspace)(first);
  const Tensor workspace(cpu.context, Shape{pieces(args.G, grain) * size});
  real* const space = workspace.data();
  parallel_for(cpu, args.G, grain, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      Gemm product = first;
      product.a += g * args.M * args.K;
      product.b += g * args.K * args.N;
      product.c += g * args.M * args.N;
      kernel(product, space + begin / grain * size);
    }
  });
}

}  // namespace fprnn
