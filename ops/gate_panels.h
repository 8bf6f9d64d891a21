// How kernels of gated recurrences hold their weights and their state: the gates of one vector of
// channels in one panel (ops/panels.h), and h of some sequences transposed. For kernel files only.
#pragma once

#include <fprnn/ops/panels.h>

namespace fprnn::FPRNN_ISA {

inline constexpr int kBackColumns = 2;  // vectors of a panel of the transposed product

// rows of x (rows, H), `stride` apart, -> (H, kLanes).
FPRNN_INLINE void transpose_rows(const real* x, int64_t stride, int64_t rows, int64_t H, real* to) {
  for_channels(H, [&](int64_t c, auto lanes, int64_t) {
    Vec column[kLanes]{};
    for (int64_t i = 0; i < rows; ++i) column[i] = lanes.load(x + i * stride + c);
    transpose(column);
    for (int64_t j = 0; j < kLanes; ++j) store(to + (c + j) * kLanes, column[j]);
  });
}

// The recurrent weights of G gates.
struct GateWeights {
  const real* weight;  // (G H, H)
  const real* bias;    // (G, H), rows bias_stride apart, or null
  int64_t bias_stride, G, H;

  // Reals of the packed forms.
  FPRNN_INLINE int64_t forward_panels() const { return (H + 1) * G * rounded(H, kLanes); }
  FPRNN_INLINE int64_t backward_panels() const { return G * H * rounded(H, kBackColumns * kLanes); }
};

// (G H, H) -> (panels, 1 + H, G, kLanes), the bias before the columns of each panel.
FPRNN_INLINE void pack_forward(const GateWeights& gates, real* to) {
  const int64_t H = gates.H, G = gates.G;
  for_channels(H, [&](int64_t c, auto lanes, int64_t channels) {
    real* const panel = to + c * (H + 1) * G;
    for (int64_t g = 0; g < G; ++g) {
      const real* const bias = gates.bias;
      store(panel + g * kLanes,
            bias != nullptr ? lanes.load(bias + g * gates.bias_stride + c) : Vec{});
      for (int64_t k = 0; k < H; k += kLanes) {
        const int64_t depth = minimum(kLanes, H - k);
        Vec x[kLanes]{};
        for (int64_t i = 0; i < channels; ++i)
          x[i] = load_partial(gates.weight + (g * H + c + i) * H + k, depth);
        transpose(x);
        for (int64_t j = 0; j < depth; ++j) store(panel + ((1 + k + j) * G + g) * kLanes, x[j]);
      }
    }
  });
}

// (G H, H) -> (panels, G H, kBackColumns, kLanes).
FPRNN_INLINE void pack_backward(const GateWeights& gates, real* to) {
  const int64_t H = gates.H, depth = gates.G * H;
  for (int64_t c = 0; c < H; c += kBackColumns * kLanes)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t v = 0; v < kBackColumns; ++v, to += kLanes) {
        const int64_t first = c + v * kLanes;
        store(to, first < H ? load_partial(gates.weight + k * H + first, minimum(kLanes, H - first))
                            : Vec{});
      }
}

}  // namespace fprnn::FPRNN_ISA
