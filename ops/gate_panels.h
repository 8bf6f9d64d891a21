// How kernels of gated recurrences go through time. h of a block's sequences stands transposed,
// (H, kLanes), which the tiles of ops/panels.h read; a panel of the recurrent weights has the gates
// of one vector of channels, so that the elementwise part follows while its sums are in the
// first-level cache. For kernel files only.
#pragma once

#include <fprnn/ops/gate_weights.h>
#include <fprnn/ops/panels.h>

namespace fprnn::FPRNN_ISA {

// rows of x (rows, H), `stride` apart, -> (H, kLanes).
FPRNN_INLINE void transpose_rows(const real* x, int64_t stride, int64_t rows, int64_t H, real* to) {
  for_channels(H, [&](int64_t c, auto lanes, int64_t) {
    Vec column[kLanes]{};
    for (int64_t i = 0; i < rows; ++i) column[i] = lanes.load(x + i * stride + c);
    transpose(column);
    for (int64_t j = 0; j < kLanes; ++j) store(to + (c + j) * kLanes, column[j]);
  });
}

// visit(c, lanes, sums) for each vector of channels: sums (rows, G, kLanes) of bias + x W^T, of the
// first `depth` of x (H, kLanes).
template <int64_t G, class Visit>
FPRNN_INLINE void for_gates(int64_t rows, int64_t H, const real* panels, const real* x,
                            int64_t depth, const Visit& visit) {
  constexpr int64_t kWidth = G * kLanes;
  alignas(64) real sums[kLanes * kWidth];
  for_channels(H, [&](int64_t c, auto lanes, int64_t) {
    const real* const panel = panels + c * (H + 1) * G;
    multiply_panel<G>(rows, {.x = x,
                             .panel = panel + kWidth,
                             .depth = depth,
                             .start = panel,
                             .start_stride = 0,
                             .out = sums,
                             .out_stride = kWidth});
    visit(c, lanes, sums);
  });
}

// All T steps: h <- row(i, t, c, lanes, sums) for each row of the block. h0 is h before the first
// step, rows `stride` apart, or null for zero. Takes two states of scratch.
template <int64_t G, class Row>
FPRNN_INLINE void sweep_forward(const SequenceBlock& block, int64_t H, int64_t T, const real* h0,
                                int64_t stride, const Row& row) {
  real* before = block.scratch;
  real* after = before + rounded(H, kLanes) * kLanes;
  if (h0 != nullptr) transpose_rows(h0, stride, block.rows, H, before);
  for (int64_t t = 0; t < T; ++t) {
    const int64_t depth = t > 0 || h0 != nullptr ? H : 0;
    for_gates<G>(block.rows, H, block.panels, before, depth,
                 [&](int64_t c, auto lanes, const real* sums) {
                   Vec h[kLanes]{};
                   for (int64_t i = 0; i < block.rows; ++i)
                     h[i] = row(i, t, c, lanes, sums + i * G * kLanes);
                   transpose(h);
                   for (int64_t j = 0; j < kLanes; ++j) store(after + (c + j) * kLanes, h[j]);
                 });
    real* const swapped = before;
    before = after;
    after = swapped;
  }
}

// What goes back through time, one behind the other: a row of `stride` for each sequence.
struct CarriedRows {
  real* space;
  int64_t stride;

  FPRNN_INLINE CarriedRows(real* scratch, int64_t H)
      : space(scratch), stride(rounded(H, kBackColumns * kLanes)) {}
  FPRNN_INLINE real* operator[](int64_t which) const { return space + which * kLanes * stride; }
};

// row(i, c, lanes, into) puts the cotangents of row i's gates into lane i of into[g]; all of them
// go to ds (G H, kLanes).
template <int64_t G, class Row>
FPRNN_INLINE void gate_cotangents(int64_t rows, int64_t H, real* ds, const Row& row) {
  for_channels(H, [&](int64_t c, auto lanes, int64_t channels) {
    Vec into[G][kLanes]{};
    for (int64_t i = 0; i < rows; ++i) row(i, c, lanes, into);
    for (int64_t g = 0; g < G; ++g) {
      transpose(into[g]);
      for (int64_t j = 0; j < channels; ++j) store(ds + (g * H + c + j) * kLanes, into[g][j]);
    }
  });
}

// dh (rows, stride) <- dh + ds W.
FPRNN_INLINE void add_through_gates(int64_t rows, int64_t H, int64_t G, const real* panels,
                                    const real* ds, real* dh, int64_t stride) {
  constexpr int64_t kWidth = kBackColumns * kLanes;
  for (int64_t c = 0; c < H; c += kWidth)
    multiply_panel<kBackColumns>(rows, {.x = ds,
                                        .panel = panels + c * G * H,
                                        .depth = G * H,
                                        .start = dh + c,
                                        .start_stride = stride,
                                        .out = dh + c,
                                        .out_stride = stride});
}

}  // namespace fprnn::FPRNN_ISA
