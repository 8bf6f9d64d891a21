#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/ops/gate_weights.h>

namespace fprnn {

FPRNN_KERNEL(int64_t vector_lanes())
FPRNN_KERNEL(void pack_gates_forward(const GateWeights&, int64_t head, real* to))
FPRNN_KERNEL(void pack_gates_backward(const GateWeights&, int64_t head, real* to))

Tensor packed_gates(Cpu cpu, const GateWeights& weights, Sweep sweep) {
  const auto pack = sweep == Sweep::forward ? FPRNN_SELECT(cpu, pack_gates_forward)
                                            : FPRNN_SELECT(cpu, pack_gates_backward);
  const int64_t width = state_reals(cpu, weights.H) / FPRNN_SELECT(cpu, vector_lanes)();
  const int64_t reals = weights.G * (weights.H + 1) * width;
  const Tensor panels(cpu.context, Shape{weights.heads, reals});
  parallel_for(cpu, weights.heads, grain_for(reals), [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head)
      pack(weights, head, panels.data() + head * reals);
  });
  return panels;
}

int64_t state_reals(Cpu cpu, int64_t H) {
  const int64_t lanes = FPRNN_SELECT(cpu, vector_lanes)(), panel = kBackColumns * lanes;
  return pieces(H, panel) * panel * lanes;
}

int64_t sequences_of_block(Cpu cpu, const GateWeights& weights, int64_t B, int64_t T) {
  constexpr int64_t kWorthAThread = 1 << 19;  // multiply-adds
  const int64_t lanes = FPRNN_SELECT(cpu, vector_lanes)(), sequences = B * weights.heads;
  const int64_t work = sequences * T * weights.G * weights.H * weights.H;
  const int64_t threads = std::clamp<int64_t>(work / kWorthAThread, 1, cpu.context.threads());
  const int64_t blocks = pieces(pieces(sequences, lanes), threads) * threads;
  return std::max<int64_t>(1, pieces(B, std::max<int64_t>(1, pieces(blocks, weights.heads))));
}

void for_blocks(Cpu cpu, const GateWeights& weights, Sweep sweep, int64_t B, int64_t T,
                int64_t states, const std::function<void(const SequenceBlock&)>& visit) {
  if (B == 0) return;
  const Tensor panels = packed_gates(cpu, weights, sweep);
  const int64_t rows = sequences_of_block(cpu, weights, B, T), blocks = pieces(B, rows);
  const int64_t units = weights.heads * blocks, space = states * state_reals(cpu, weights.H);
  const int64_t grain = grain_for(rows * T * weights.G * weights.H * weights.H);
  const Tensor scratch(cpu.context, Shape{pieces(units, grain), space});
  parallel_for(cpu, units, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t head = unit / blocks, first = unit % blocks * rows;
      visit({.head = head,
             .begin = first,
             .rows = std::min(rows, B - first),
             .panels = panels.data() + head * (panels.elements() / weights.heads),
             .scratch = scratch.data() + begin / grain * space});
    }
  });
}

}  // namespace fprnn
