// Gated recurrences step by step, for heads that one kernel for all steps does not take
// (cuda/gate_sweep.cuh, which says what a cell is): the products of a step, and a kernel in which a thread
// takes a channel of a sequence through its cell.
#pragma once

#include <fprnn/cuda/gate_sweep.cuh>

namespace fprnn::cuda {

// What the threads of a step leave for the next, and products of (heads, B, G, d).
template <class Kept, class Cell>
struct GateSteps {
  static constexpr int kGates = Cell::kGates;
  GateSizes sizes;
  Kept* kept;      // (B, D)
  real* products;  // (heads, B, G, d)

  __device__ __forceinline__ GateChannel channel(int64_t i) const {
    return {i / sizes.width(), i % sizes.width(), sizes.T, sizes.width()};
  }
  __device__ __forceinline__ real& product(const GateChannel& at, int g) const {
    const int64_t head = at.channel / sizes.d, c = at.channel % sizes.d;
    return products[((head * sizes.B + at.sequence) * kGates + g) * sizes.d + c];
  }
};
template <class Kept>
Tensor room_for(Cuda cuda, const GateSizes& sizes) {
  return Tensor(cuda.context, Shape{sizes.B, sizes.width(), int64_t{sizeof(Kept) / sizeof(real)}});
}

template <class Cell>
void gates_forward_by_steps(Cuda cuda, const Cell& cell) {
  using State = typename Cell::State;
  constexpr int G = Cell::kGates;
  const GateSizes n = cell.sizes();
  const int64_t D = n.width(), of_head = n.B * G * n.d;
  const Tensor kept = room_for<State>(cuda, n), products(cuda.context, Shape{n.heads, of_head});
  const GateSteps<State, Cell> steps{n, reinterpret_cast<State*>(kept.data()), products.data()};
  for_each(cuda, "gate_first", n.B * D,
           [=] __device__(int64_t i) { steps.kept[i] = cell.first(steps.channel(i)); });
  for (int64_t t = 0; t < n.T; ++t) {
    const real* const h = t > 0 ? cell.args.h + (t - 1) * D : cell.args.h0;
    for (int64_t head = 0; h != nullptr && head < n.heads; ++head)
      run(cuda, Gemm{.a = h + head * n.d,
                     .b = cell.args.weight + head * G * n.d * n.d,
                     .c = steps.products + head * of_head,
                     .M = n.B,
                     .N = G * n.d,
                     .K = n.d,
                     .lda = t > 0 ? n.T * D : D,
                     .ldb = n.d,
                     .ldc = G * n.d,
                     .transpose_b = true});
    const bool product = h != nullptr;
    for_each(cuda, "gate_forward_step", n.B * D, [=] __device__(int64_t i) {
      const GateChannel at = steps.channel(i);
      real x[G], s[G];
      unrolled<G>([&](int g) {
        x[g] = cell.args.x[at.at(t, G, g)];
        s[g] = (product ? steps.product(at, g) : real(0)) +
               given(cell.args.bias, g * at.D + at.channel);
      });
      State state = steps.kept[i];
      cell.step(at, t, x, s, state, true);
      steps.kept[i] = state;
    });
  }
  for_each(cuda, "gate_finish", n.B * D,
           [=] __device__(int64_t i) { cell.finish(steps.channel(i), steps.kept[i]); });
}

template <class Cell>
void gates_backward_by_steps(Cuda cuda, const Cell& cell) {
  using Carry = typename Cell::Carry;
  constexpr int G = Cell::kGates;
  const GateSizes n = cell.sizes();
  const int64_t D = n.width(), of_head = n.B * G * n.d;
  const Tensor kept = room_for<Carry>(cuda, n), products(cuda.context, Shape{n.heads, of_head}),
               through_gates(cuda.context, Shape{n.B, D});
  const GateSteps<Carry, Cell> steps{n, reinterpret_cast<Carry*>(kept.data()), products.data()};
  const real* const back = through_gates.data();
  for_each(cuda, "gate_last", n.B * D,
           [=] __device__(int64_t i) { steps.kept[i] = cell.last(steps.channel(i)); });
  for (int64_t t = n.T - 1; t >= 0; --t) {
    const bool product = t + 1 < n.T;
    for_each(cuda, "gate_backward_step", n.B * D, [=] __device__(int64_t i) {
      const GateChannel at = steps.channel(i);
      Carry carry = steps.kept[i];
      if (product) carry.dh += back[i];
      real ds[G];
      cell.step(at, t, cell.load(at, t), carry, ds, true);
      unrolled<G>([&](int g) { steps.product(at, g) = ds[g]; });
      steps.kept[i] = carry;
    });
    if (t == 0 && cell.args.dh0 == nullptr) break;
    for (int64_t head = 0; head < n.heads; ++head)
      run(cuda, Gemm{.a = steps.products + head * of_head,
                     .b = cell.args.forward.weight + head * G * n.d * n.d,
                     .c = through_gates.data() + head * n.d,
                     .M = n.B,
                     .N = n.d,
                     .K = G * n.d,
                     .lda = G * n.d,
                     .ldb = n.d,
                     .ldc = D});
  }
  const bool product = n.T > 0 && cell.args.dh0 != nullptr;
  for_each(cuda, "gate_finish_backward", n.B * D, [=] __device__(int64_t i) {
    Carry carry = steps.kept[i];
    if (product) carry.dh += back[i];
    cell.finish(steps.channel(i), carry);
  });
}

// By the form that takes the head.
template <bool kBack, class Cell>
void run_gates(Cuda cuda, std::string_view name, const Cell& cell, const real* weight) {
  if constexpr (!kDouble)
    if (cell.sizes().d <= kMostOfHead) return start_gates<kBack>(cuda, name, cell, weight);
  if constexpr (kBack)
    gates_backward_by_steps(cuda, cell);
  else
    gates_forward_by_steps(cuda, cell);
}

}  // namespace fprnn::cuda
