// The LSTM and the GRU as cells of cuda/gate_sweep.cuh: one head.
#include <fprnn/cuda/gate_steps.cuh>
#include <fprnn/ops/recurrent.h>
#include <fprnn/ops/recurrent_cells.h>

namespace fprnn {

namespace cuda {
namespace {

template <class Cell>
struct RecurrentForwardCell {
  static constexpr int kGates = Cell::kGates;
  RecurrentForward args;
  struct State {
    real carry;
  };

  FPRNN_HOST_DEVICE GateSizes sizes() const { return {args.B, args.T, 1, args.H}; }
  __device__ __forceinline__ State first(const GateChannel& at) const {
    return {given(Cell::kCarriesC ? args.c0 : args.h0, at.state())};
  }
  __device__ __forceinline__ real step(const GateChannel& at, int64_t t, const real* x,
                                       const real* s, State& state, bool writes) const {
    const CellStep<real> now = Cell::step(x, s, state.carry);
    state.carry = now.carry;
    if (writes) {
      args.h[at.at(t)] = now.h;
      if constexpr (Cell::kCarriesC) args.c[at.at(t)] = now.carry;
      if (args.saved != nullptr)
        unrolled<kRecurrentSaved>(
            [&](int k) { args.saved[at.at(t, kRecurrentSaved, k)] = now.saved[k]; });
    }
    return now.h;
  }
  __device__ __forceinline__ void finish(const GateChannel&, const State&) const {}
};

template <class Cell>
struct RecurrentBackwardCell {
  static constexpr int kGates = Cell::kGates;
  RecurrentBackward args;
  struct Carry {
    real dh, dc;
  };
  struct Loaded {
    real saved[kRecurrentSaved], before, carry, dh, dc;
  };

  FPRNN_HOST_DEVICE GateSizes sizes() const {
    return {args.forward.B, args.forward.T, 1, args.forward.H};
  }
  __device__ __forceinline__ Carry last(const GateChannel&) const { return {0, 0}; }
  __device__ __forceinline__ const real* carries() const {
    return Cell::kCarriesC ? args.forward.c : args.forward.h;
  }
  __device__ __forceinline__ Loaded load(const GateChannel& at, int64_t t) const {
    Loaded of{};
    unrolled<kRecurrentSaved>(
        [&](int k) { of.saved[k] = args.forward.saved[at.at(t, kRecurrentSaved, k)]; });
    of.before = t > 0 ? carries()[at.at(t - 1)]
                      : given(Cell::kCarriesC ? args.forward.c0 : args.forward.h0, at.state());
    of.dh = args.dh[at.at(t)];
    if constexpr (Cell::kCarriesC) {
      of.carry = args.forward.c[at.at(t)];
      of.dc = given(args.dc, at.at(t));
    }
    return of;
  }
  template <class Visit>
  __device__ __forceinline__ void each_read(const GateChannel& at, int64_t t,
                                            const Visit& visit) const {
    unrolled<kRecurrentSaved>(
        [&](int k) { visit(args.forward.saved + at.at(t, kRecurrentSaved, k)); });
    visit(carries() + at.at(t));
    visit(args.dh + at.at(t));
    if (args.dc != nullptr) visit(args.dc + at.at(t));
  }
  __device__ __forceinline__ void step(const GateChannel& at, int64_t t, const Loaded& of,
                                       Carry& carry, real (&ds)[kGates], bool writes) const {
    const auto now =
        Cell::cotangents(of.saved, of.before, of.carry, of.dh + carry.dh, of.dc + carry.dc);
    carry = Cell::kCarriesC ? Carry{0, now.dcarry} : Carry{now.dcarry, 0};
    unrolled<kGates>([&](int g) {
      ds[g] = now.ds[g];
      if (!writes) return;
      args.dx[at.at(t, kGates, g)] = now.dx[g];
      if constexpr (!Cell::kCarriesC) args.ds[at.at(t, kGates, g)] = now.ds[g];
    });
  }
  __device__ __forceinline__ void finish(const GateChannel& at, const Carry& carry) const {
    give(args.dh0, at.state(), carry.dh);
    give(args.dc0, at.state(), carry.dc);
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const RecurrentForward& args) {
  args.cell == RecurrentCell::lstm
      ? run_gates<false>(cuda, "lstm_forward", RecurrentForwardCell<LstmCell>{args}, args.weight)
      : run_gates<false>(cuda, "gru_forward", RecurrentForwardCell<GruCell>{args}, args.weight);
}

void run(Cuda cuda, const RecurrentBackward& args) {
  const real* const weight = args.forward.weight;
  args.forward.cell == RecurrentCell::lstm
      ? run_gates<true>(cuda, "lstm_backward", RecurrentBackwardCell<LstmCell>{args}, weight)
      : run_gates<true>(cuda, "gru_backward", RecurrentBackwardCell<GruCell>{args}, weight);
}

}  // namespace fprnn
