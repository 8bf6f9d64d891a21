// How ops of gated recurrences go through time on the CPU (recurrent.md): the recurrent weights are
// packed once, and a block of sequences of one head is one thread's through all steps. No bit
// depends on the blocks. For kernel files only.
#pragma once

#include <fprnn/core/tensor.h>

#include <functional>

namespace fprnn {

enum class Sweep { forward, backward };

struct GateWeights {
  const real* weight;  // (heads, G H, H)
  const real* bias;    // (G, heads, H) or null
  int64_t heads, G, H;
};
inline constexpr int64_t kBackColumns = 2;  // vectors of a panel of the transposed product

// (heads, reals of a head): the panels that ops/gate_panels.h reads.
Tensor packed_gates(Cpu cpu, const GateWeights& weights, Sweep sweep);

// Reals of (H, lanes): a state, of as many sequences as a vector has lanes.
int64_t state_reals(Cpu cpu, int64_t H);

// How many of B sequences make a block: as many as a vector has lanes, or fewer where that leaves
// threads idle.
int64_t sequences_of_block(Cpu cpu, const GateWeights& weights, int64_t B, int64_t T);

struct SequenceBlock {
  int64_t head, begin, rows;  // sequences begin .. begin + rows - 1
  const real* panels;         // of the head
  real* scratch;              // for so many states
};
// visit for every block.
void for_blocks(Cpu cpu, const GateWeights& weights, Sweep sweep, int64_t B, int64_t T,
                int64_t states, const std::function<void(const SequenceBlock&)>& visit);

}  // namespace fprnn
