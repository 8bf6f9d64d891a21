#include <fprnn/ops/gate_panels.h>

namespace fprnn::FPRNN_ISA {

// (G H, H) -> (panels, 1 + H, G, kLanes), the bias before the columns of each panel.
void pack_gates_forward(const GateWeights& gates, int64_t head, real* to) {
  const int64_t H = gates.H, G = gates.G;
  const real* const weight = gates.weight + head * G * H * H;
  for_channels(H, [&](int64_t c, auto lanes, int64_t channels) {
    real* const panel = to + c * (H + 1) * G;
    for (int64_t g = 0; g < G; ++g) {
      store(panel + g * kLanes, load_or_zero(gates.bias, (g * gates.heads + head) * H + c, lanes));
      for (int64_t k = 0; k < H; k += kLanes) {
        const int64_t depth = minimum(kLanes, H - k);
        Vec x[kLanes]{};
        for (int64_t i = 0; i < channels; ++i)
          x[i] = load_partial(weight + (g * H + c + i) * H + k, depth);
        transpose(x);
        for (int64_t j = 0; j < depth; ++j) store(panel + ((1 + k + j) * G + g) * kLanes, x[j]);
      }
    }
  });
}

// (G H, H) -> (panels, G H, kBackColumns, kLanes).
void pack_gates_backward(const GateWeights& gates, int64_t head, real* to) {
  const int64_t H = gates.H, depth = gates.G * H;
  const real* const weight = gates.weight + head * depth * H;
  for (int64_t c = 0; c < H; c += kBackColumns * kLanes)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t v = 0; v < kBackColumns; ++v, to += kLanes) {
        const int64_t first = c + v * kLanes;
        store(to,
              first < H ? load_partial(weight + k * H + first, minimum(kLanes, H - first)) : Vec{});
      }
}

}  // namespace fprnn::FPRNN_ISA
