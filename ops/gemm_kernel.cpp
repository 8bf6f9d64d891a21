// The matrix product of one thread: C is cut into tiles so small that their sums stay in registers.
//
//   for a block of columns and depth   pack B into panels, kPanel columns wide   stays in L2
//     for kRows rows                   pack their part of A                      stays in L1
//       for a panel of B               a tile of C: rows x kPanel sums           registers
//         for k                        sum(i, :) += a(i, k) b(k, :)
//
// A tile starts from what C, bias or zero gives and runs through k in order; the next block of
// depth takes it up where it stopped. Rows and columns never mix: edges need no other arithmetic.
// Few rows by a transposed B go another way (ops/gemm_few_rows.h).
#include <fprnn/ops/gemm_few_rows.h>

namespace fprnn::FPRNN_ISA {

namespace {

// kRows x 2 vectors of sums, 2 of B and one of A fill the 32 or 16 registers there are. A
// transposed part of A is packed in whole vectors, kSlots >= kRows values for each k.
#if defined(__AVX512F__)
constexpr int64_t kRows = 14, kSlots = 16;
#elif defined(__AVX2__)
constexpr int64_t kRows = 6, kSlots = 8;
#else
constexpr int64_t kRows = 4, kSlots = 4;
#endif
constexpr int64_t kPanel = 2 * kLanes;
// A block of B: 1 MB, half an L2 cache.
constexpr int64_t kDepth = 256;
constexpr int64_t kColumns = 4096 / sizeof(real);
// Rows of packed A, not a power of 2 apart: those would share a few sets of the cache.
constexpr int64_t kRowStride = kDepth + 16;

constexpr real kZeros[kPanel] = {};

FPRNN_INLINE int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// The length of equal parts, none above limit, that cover count.
FPRNN_INLINE int64_t part_of(int64_t count, int64_t limit, int64_t step) {
  const int64_t parts = (count + limit - 1) / limit;
  return parts <= 1 ? limit : round_up((count + parts - 1) / parts, step);
}

// In steps of the largest power of 2 that fits; the last step overlaps the one before.
template <int64_t width = kLanes>
FPRNN_INLINE void copy_row(real* to, const real* from, int64_t count) {
  if (count >= width) {
    for (int64_t i = 0; i + width < count; i += width)
      __builtin_memcpy(to + i, from + i, width * sizeof(real));
    __builtin_memcpy(to + count - width, from + count - width, width * sizeof(real));
  } else if constexpr (width > 1) {
    copy_row<width / 2>(to, from, count);
  }
}

// The same, and zeros up to width. Sums of columns beyond count are never stored, but leftovers
// there could be subnormal numbers, and those are slow.
template <int64_t width>
FPRNN_INLINE void copy_padded(real* to, const real* from, int64_t count) {
  for (int64_t i = 0; i < width; i += kLanes) store(to + i, Vec{});
  copy_row(to, from, count);
}

// (depth, count) with rows ld apart -> (depth, width).
template <int64_t width>
FPRNN_INLINE void pack_rows(real* to, const real* from, int64_t ld, int64_t depth, int64_t count) {
  if (count >= width)
    for (int64_t k = 0; k < depth; ++k) copy_row(to + k * width, from + k * ld, width);
  else
    for (int64_t k = 0; k < depth; ++k) copy_padded<width>(to + k * width, from + k * ld, count);
}

// (count, depth) with rows ld apart -> (depth, kPanel). Beyond count the last row stands again; the
// last square overlaps the one before if depth is no multiple of kLanes.
FPRNN_INLINE void pack_transposed(real* to, const real* from, int64_t ld, int64_t depth,
                                  int64_t count) {
  if (depth < kLanes) {
    for (int64_t i = 0; i < depth * kPanel; i += kLanes) store(to + i, Vec{});
    for (int64_t i = 0; i < count; ++i)
      for (int64_t k = 0; k < depth; ++k) to[k * kPanel + i] = from[i * ld + k];
    return;
  }
  for (int64_t begin = 0; begin < count; begin += kLanes) {
    const SquareRows<1> rows(from + begin * ld, ld, count - begin);
    for (int64_t k = 0; k < depth; k += kLanes) {
      const int64_t square = minimum(k, depth - kLanes);
      Vec x[kLanes];
      load_transposed(rows.at, square, x);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) store(to + (square + i) * kPanel + begin, x[i]);
    }
  }
}

// A part of op(A) or op(B) as tiles read it: the values of step k are k * step further.
struct Part {
  const real* at;
  int64_t step;
};

FPRNN_INLINE bool fills_vectors(int64_t columns) { return columns >= kPanel || columns == kLanes; }

// B is read where it is if too few rows use it to repay the packing.
FPRNN_INLINE bool packs_panel(const Gemm& block, int64_t column) {
  return block.transpose_b || block.M > 6 * kRows || !fills_vectors(block.N - column);
}

void pack_b(real* to, const Gemm& block) {
  for (int64_t j = 0; j < block.N; j += kPanel, to += kPanel * block.K) {
    if (!packs_panel(block, j)) continue;
    const int64_t count = minimum(kPanel, block.N - j);
    if (block.transpose_b)
      pack_transposed(to, block.b + j * block.ldb, block.ldb, block.K, count);
    else
      pack_rows<kPanel>(to, block.b + j, block.ldb, block.K, count);
  }
}

// Rows [begin, begin + count) of op(A), kRowStride apart, or (K, kSlots) if A is transposed.
Part pack_a(real* to, const Gemm& block, int64_t begin, int64_t count) {
  if (block.transpose_a) {
    // Few panels do not repay the packing, unless each k lies on another page.
    if (block.N <= 2 * kPanel && block.lda <= 256) return {block.a + begin, block.lda};
    const int64_t first = block.M < kSlots ? begin : minimum(begin, block.M - kSlots);
    pack_rows<kSlots>(to, block.a + first, block.lda, block.K, block.M - first);
    return {to + begin - first, kSlots};
  }
  for (int64_t i = 0; i < count; ++i)
    copy_row(to + i * kRowStride, block.a + (begin + i) * block.lda, block.K);
  return {to, 1};
}

// C <- start + A B for some rows and a panel of columns; start: C, or bias or zeros with stride 0.
struct Tile {
  Part a, b;
  int64_t depth;
  const real* start;
  int64_t start_stride;
  real* c;
  int64_t ldc;
};

template <int64_t rows, int64_t vectors, int64_t row_stride>
void multiply_tile(const Tile& tile) {
  Vec sum[rows][vectors];
#pragma GCC unroll 16
  for (int64_t i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int64_t v = 0; v < vectors; ++v)
      sum[i][v] = load(tile.start + i * tile.start_stride + v * kLanes);
    __builtin_prefetch(tile.c + i * tile.ldc + kPanel);  // the next tile's place
  }
  const real* a = tile.a.at;
  const real* b = tile.b.at;
  for (int64_t k = 0; k < tile.depth; ++k, a += tile.a.step, b += tile.b.step) {
    Vec row[vectors];
#pragma GCC unroll 2
    for (int64_t v = 0; v < vectors; ++v) row[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int64_t v = 0; v < vectors; ++v) sum[i][v] = sum[i][v] + a[i * row_stride] * row[v];
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int64_t v = 0; v < vectors; ++v) store(tile.c + i * tile.ldc + v * kLanes, sum[i][v]);
}

// Picks the tile compiled for this number of rows.
template <int64_t vectors, int64_t row_stride, int64_t most = kRows>
FPRNN_INLINE void multiply_rows(int64_t rows, const Tile& tile) {
  if (rows == most)
    multiply_tile<most, vectors, row_stride>(tile);
  else if constexpr (most > 1)
    multiply_rows<vectors, row_stride, most - 1>(rows, tile);
}

void multiply_any(int64_t rows, int64_t columns, bool transposed, const Tile& tile) {
  if (columns > kLanes)
    transposed ? multiply_rows<2, 1>(rows, tile) : multiply_rows<2, kRowStride>(rows, tile);
  else
    transposed ? multiply_rows<1, 1>(rows, tile) : multiply_rows<1, kRowStride>(rows, tile);
}

// Columns that do not fill their vectors: the tile is worked on in a place of its own.
void multiply_edge(int64_t rows, int64_t columns, bool transposed, const Tile& tile) {
  real start[kRows * kPanel], c[kRows * kPanel];
  for (int64_t i = 0; i < (tile.start_stride > 0 ? rows : 1); ++i)
    copy_padded<kPanel>(start + i * kPanel, tile.start + i * tile.start_stride, columns);
  Tile whole = tile;
  whole.start = start;
  whole.start_stride = tile.start_stride > 0 ? kPanel : 0;
  whole.c = c;
  whole.ldc = kPanel;
  multiply_any(rows, columns, transposed, whole);
  for (int64_t i = 0; i < rows; ++i) copy_row(tile.c + i * tile.ldc, c + i * kPanel, columns);
}

// A product of depth <= kDepth and at most kColumns columns.
void multiply_block(const Gemm& block, real* packed_b) {
  alignas(64) real packed_a[kSlots * kRowStride];
  pack_b(packed_b, block);
  const int64_t tiles = (block.M + kRows - 1) / kRows;
  const int64_t least = block.M / tiles, more = block.M % tiles;  // the first tiles have a row more
  for (int64_t t = 0, begin = 0, rows; t < tiles; ++t, begin += rows) {
    rows = least + (t < more);
    const Part a = pack_a(packed_a, block, begin, rows);
    for (int64_t j = 0; j < block.N; j += kPanel) {
      real* const c = block.c + begin * block.ldc + j;
      const Tile tile{.a = a,
                      .b = packs_panel(block, j) ? Part{packed_b + j * block.K, kPanel}
                                                 : Part{block.b + j, block.ldb},
                      .depth = block.K,
                      .start = block.accumulate ? c
                               : block.bias     ? block.bias + j
                                                : kZeros,
                      .start_stride = block.accumulate ? block.ldc : 0,
                      .c = c,
                      .ldc = block.ldc};
      if (fills_vectors(block.N - j))
        multiply_any(rows, block.N - j, block.transpose_a, tile);
      else
        multiply_edge(rows, block.N - j, block.transpose_a, tile);
    }
  }
}

}  // namespace

// How many reals the product needs to work in.
int64_t gemm_workspace(const Gemm& args) {
  if (has_few_rows(args)) return 0;
  return minimum(args.K, kDepth) * round_up(minimum(args.N, kColumns), kPanel);
}

void gemm(const Gemm& args, real* workspace) {
  if (args.M == 0) return;
  if (has_few_rows(args)) return multiply_few_rows(args);
  const int64_t depth = part_of(args.K, kDepth, 16);
  const int64_t columns = part_of(args.N, kColumns, kPanel);
  for (int64_t j = 0; j < args.N; j += columns) {
    int64_t k = 0;
    do {
      Gemm block = args;
      block.a += args.transpose_a ? k * args.lda : k;
      block.b += args.transpose_b ? j * args.ldb + k : k * args.ldb + j;
      block.c += j;
      if (args.bias) block.bias += j;
      block.N = minimum(columns, args.N - j);
      block.K = minimum(depth, args.K - k);
      block.accumulate = args.accumulate || k > 0;
      multiply_block(block, workspace);
      k += depth;
    } while (k < args.K);
  }
}

}  // namespace fprnn::FPRNN_ISA
