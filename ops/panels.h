// Products of a few rows with a matrix that many such products share, for kernels that go through
// time: its columns are packed once into panels a few vectors wide, and a tile of rows by a panel
// keeps its sums in registers. An element is one chain of multiply-adds in the order of depth,
// whatever rows are beside it.
#pragma once

#include <fprnn/core/simd.h>

namespace fprnn::FPRNN_ISA {

#if defined(__AVX512F__)
inline constexpr int kTileSums = 24;  // of 32 registers
#else
inline constexpr int kTileSums = 12;  // of 16
#endif

FPRNN_INLINE int64_t rounded(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// body(first channel, lanes, their number) for each vector of H channels.
template <class Body>
FPRNN_INLINE void for_channels(int64_t H, const Body& body) {
  for_lanes(H, [&](int64_t c, auto lanes) { body(c, lanes, minimum(kLanes, H - c)); });
}

// out <- start + x panel for at most kLanes rows.
struct PanelProduct {
  const real* x;      // (depth, kLanes): row i is lane i
  const real* panel;  // (depth, Vectors, kLanes)
  int64_t depth;
  const real* start;  // (rows, Vectors, kLanes), rows start_stride apart
  int64_t start_stride;
  real* out;  // likewise, rows out_stride apart; may be start
  int64_t out_stride;
};

template <int Rows, int Vectors>
void multiply_tile(const PanelProduct& product) {
  Vec sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v)
      sum[i][v] = load(product.start + i * product.start_stride + v * kLanes);
  const real* x = product.x;
  const real* panel = product.panel;
  for (int64_t k = 0; k < product.depth; ++k, x += kLanes, panel += Vectors * kLanes) {
    Vec column[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) column[v] = load(panel + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[i][v] = sum[i][v] + x[i] * column[v];
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v)
      store(product.out + i * product.out_stride + v * kLanes, sum[i][v]);
}

// Picks the tile compiled for this number of rows.
template <int Vectors, int Most = kTileSums / Vectors>
FPRNN_INLINE void multiply_tile_of(int64_t rows, const PanelProduct& product) {
  if (rows == Most)
    multiply_tile<Most, Vectors>(product);
  else if constexpr (Most > 1)
    multiply_tile_of<Vectors, Most - 1>(rows, product);
}

// All rows, in tiles of nearly the same size.
template <int Vectors>
FPRNN_INLINE void multiply_panel(int64_t rows, PanelProduct product) {
  constexpr int64_t kMost = kTileSums / Vectors;
  for (int64_t tiles = (rows + kMost - 1) / kMost; tiles > 0; --tiles) {
    const int64_t now = (rows + tiles - 1) / tiles;
    multiply_tile_of<Vectors>(now, product);
    product.x += now;
    product.start += now * product.start_stride;
    product.out += now * product.out_stride;
    rows -= now;
  }
}

}  // namespace fprnn::FPRNN_ISA
