// The gradient of adaptive computation time (cuda/act.cuh).
#include <fprnn/cuda/act.cuh>

namespace fprnn {

namespace cuda {
namespace {

struct ActBackwardSweep {
  ActBackward args;
  const real* log;  // (B, rounds, numbers)
  int64_t rounds;
  FPRNN_HOST_DEVICE GateSizes sizes() const {
    return {args.forward.B, args.forward.T, 1, args.forward.H};
  }
};

struct ActLoaded {
  real saved[kRecurrentSaved]{}, h = 0, c = 0, h_before = 0, c_before = 0, p = 0, weight = 0;
};

// One channel of a sequence on its way back.
template <class Cell>
struct ActBackwardChannel {
  static constexpr int G = Cell::kGates;
  using Row = ActRow<Cell>;
  const ActBackwardSweep& of;
  const ActBackward& args;
  const GateChannel at;
  const bool inside, writes, leads;
  bool going, last = true;  // last: the cell of its token
  int64_t t;
  int cell = 0, n = 0, first_cell = 0, steps_before = 0;  // n: from 1; steps_before: of token t - 1
  // Carried; of the token's state and of R, at first what comes from outside.
  real dh = 0, dc = 0, dsh = 0, dsc = 0, dremainder = 0, halt = 0;
  real dx[G]{}, dflag[G]{};

  __device__ __forceinline__ ActBackwardChannel(const ActBackwardSweep& of, const GateChannel& at,
                                                bool inside, bool writes)
      : of(of),
        args(of.args),
        at(at),
        inside(inside),
        writes(writes),
        leads(writes && at.channel == 0),
        going(at.sequence < args.forward.B && args.forward.T > 0),
        t(args.forward.T - 1) {
    if (inside) halt = args.forward.halt_weight[at.channel];
    if (!going) return;
    first_cell = args.offsets[at.sequence];
    cell = args.offsets[at.sequence + 1] - first_cell - 1;
    n = steps(t);
    steps_before = steps(t - 1);
  }
  __device__ __forceinline__ int steps(int64_t token) const {
    return token >= 0 ? args.forward.steps[at.sequence * args.forward.T + token] : 0;
  }
  __device__ __forceinline__ const real* row(int of_cell) const {
    return of.log + (at.sequence * of.rounds + of_cell) * Row::numbers(args.forward.H);
  }

  __device__ __forceinline__ ActLoaded load() {
    ActLoaded to;
    if (!going || !inside) return to;
    const int64_t H = args.forward.H;
    const real *const now = row(cell), *const own = now + at.channel;
    unrolled<kRecurrentSaved>([&](int k) { to.saved[k] = own[k * H]; });
    to.h = own[kActH * H];
    if constexpr (Cell::kCarriesC) to.c = own[kActC * H];
    to.p = now[Row::kParts * H];
    to.weight = now[Row::kParts * H + 1];
    load_before(to);
    if (last) {
      dsh = args.dh[at.at(t)];
      if constexpr (Cell::kCarriesC) dsc = given(args.dc, at.at(t));
      dremainder = given(args.dponder, at.sequence * at.T + t);
    }
    if (cell >= kGateAhead)
      unrolled<Row::kParts>(
          [&](int k) { bring_near(row(cell - kGateAhead) + k * H + at.channel); });
    return to;
  }
  // The state that the cell started from.
  __device__ __forceinline__ void load_before(ActLoaded& to) const {
    const ActForward& in = args.forward;
    if (n > 1) {
      const real* const before = row(cell - 1) + at.channel;
      to.h_before = before[kActH * in.H];
      if constexpr (Cell::kCarriesC) to.c_before = before[kActC * in.H];
    } else {
      to.h_before = t > 0 ? in.h[at.at(t - 1)] : given(in.h0, at.state());
      if constexpr (Cell::kCarriesC)
        to.c_before = t > 0 ? in.c[at.at(t - 1)] : given(in.c0, at.state());
    }
  }

  // Returns the channel's part of the cotangent of the cell's weight.
  __device__ __forceinline__ real open(const ActLoaded& now) {
    if (!going) return 0;
    if (last) {
      dsh += dh;
      dsc += dc;
      dh = dc = 0;
    }
    return writes ? dsh * now.h + dsc * now.c : real(0);
  }

  __device__ __forceinline__ void make_cell(const ActLoaded& now, real dweight, real (&ds)[G]) {
    unrolled<G>([&](int g) { ds[g] = 0; });
    if (!going || !inside) return;
    if (last) dremainder += dweight;
    const real dlogit = last ? real(0) : (dweight - dremainder) * (now.p * (1 - now.p));
    const auto back =
        Cell::cotangents(now.saved, Cell::kCarriesC ? now.c_before : now.h_before, now.c,
                         dh + now.weight * dsh + dlogit * halt, dc + now.weight * dsc);
    unrolled<G>([&](int g) {
      ds[g] = back.ds[g];
      dx[g] = last ? back.dx[g] : dx[g] + back.dx[g];
      if (n == 1) dflag[g] += back.dx[g];
    });
    dh = Cell::kCarriesC ? real(0) : back.dcarry;
    dc = Cell::kCarriesC ? back.dcarry : real(0);
    if (writes) write(now, ds, dlogit);
  }
  __device__ __forceinline__ void write(const ActLoaded& now, const real (&ds)[G],
                                        real dlogit) const {
    const int64_t H = args.forward.H, number = int64_t{first_cell} + cell, width = G * H + 1;
    real* const to = args.ds + number * width;
    unrolled<G>([&](int g) {
      to[g * H + at.channel] = ds[g];
      if (n == 1) args.dx[at.at(t, G, g)] = dx[g];
    });
    args.before[number * H + at.channel] = now.h_before;
    if (leads && n == 1) to[G * H] = 0;
    if (leads && !last) to[width + G * H] = dlogit;  // in the row of the cell after
  }

  __device__ __forceinline__ void go_back() {
    if (!going) return;
    --cell;
    last = n == 1;
    if (!last) {
      --n;
      return;
    }
    going = --t >= 0;
    n = steps_before;
    steps_before = steps(t - 1);
    if (!inside || t < kGateAhead) return;
    bring_near(args.dh + at.at(t - kGateAhead));
    bring_near(args.forward.h + at.at(t - kGateAhead));
    if constexpr (Cell::kCarriesC) bring_near(args.forward.c + at.at(t - kGateAhead));
  }
  __device__ __forceinline__ void finish() const {
    if (!writes) return;
    give(args.dh0, at.state(), dh);
    if constexpr (Cell::kCarriesC) give(args.dc0, at.state(), dc);
    unrolled<G>([&](int g) { args.dflag[(at.sequence * G + g) * at.D + at.channel] = dflag[g]; });
  }
};

template <class Cell, int R, int Held>
__global__ void __launch_bounds__(gate_threads(Held))
    act_backward_kernel(const ActBackwardSweep of, const GatePlan plan) {
  extern __shared__ GateQuad gate_room[];
  constexpr int G = Cell::kGates;
  constexpr int kSums = R > 1 ? 1 : G;  // chains of multiply-adds, as in gate_backward_kernel
  const GateSizes sizes = of.sizes();
  const GateLane<R> lane(sizes);
  const GateVectors room(gate_room, plan, G, G * R);
  const GateWeights<R, G, Held, true> weights(lane, sizes, plan, of.args.forward.weight, gate_room);
  real *const vectors = room[0], *const dweights = room[1];
  ActBackwardChannel<Cell> channel(of, lane.at, lane.inside, lane.writes);
  ActLoaded next = channel.load();
  while (__any_sync(kAllLanes, channel.going)) {  // the same in all warps: each has all rows
    const ActLoaded now = next;
    real ds[G], sums[R][kSums]{}, back[R][1], own[1];
    tell_warp_sum<R>(channel.open(now), lane.row, dweights);
    __syncthreads();
    channel.make_cell(now, sum_of_warps<R>(dweights, lane.row), ds);
    if (lane.writes)
      unrolled<G>([&](int g) { vectors[(g * R + lane.row) * plan.stride + lane.channel] = ds[g]; });
    __syncthreads();
    const bool made = channel.going;
    channel.go_back();
    next = channel.load();
    weights.multiply(vectors, sums);
    unrolled<R>([&](int r) {
      back[r][0] = sums[r][0];
      unrolled<kSums - 1>([&](int g) { back[r][0] += sums[r][g + 1]; });
    });
    sums_of_lanes(back, lane.part, own);
    if (made) channel.dh += own[0];
  }
  channel.finish();
}

template <class Cell>
void start_backward(Cuda cuda, std::string_view name, const ActBackwardSweep& of) {
  with_gate_form(of.sizes(), [&](auto rows, auto held) {
    constexpr int R = decltype(rows)::value, Held = decltype(held)::value;
    const GateStart at =
        gate_start<R, Held, true>(cuda, of.sizes(), Cell::kGates, of.args.forward.weight);
    start(cuda, name, act_backward_kernel<Cell, R, Held>, at.grid, of, at.plan);
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const ActBackward& args) {
  const ActLog& log = *args.forward.log;
  const ActBackwardSweep of{args, log.blocks.empty() ? nullptr : log.blocks[0].chunks[0].data(),
                            log.rounds};
  if constexpr (!kDouble)
    args.forward.cell == RecurrentCell::lstm
        ? start_backward<LstmCell>(cuda, "act_lstm_backward", of)
        : start_backward<GruCell>(cuda, "act_gru_backward", of);
}

}  // namespace fprnn
