// Adaptive computation time, forward (cuda/act.cuh).
#include <fprnn/cuda/act.cuh>

namespace fprnn {

namespace cuda {
namespace {

struct ActForwardSweep {
  ActForward args;
  real* log;       // (B, rounds, numbers) or null
  int64_t rounds;  // cells beyond are not kept
  int32_t* cells;  // (B) or null
  FPRNN_HOST_DEVICE GateSizes sizes() const { return {args.B, args.T, 1, args.H}; }
};

// One channel of a sequence on its way.
template <class Cell>
struct ActForwardChannel {
  static constexpr int G = Cell::kGates;
  const ActForwardSweep& of;
  const ActForward& args;
  const GateChannel at;
  const bool inside, writes, leads;  // leads: writes what a sequence has once
  bool going;
  int64_t t = 0;
  int n = 1, cell = 0;
  real sum = 0, h = 0, carry = 0, mean_h = 0, mean_c = 0, halt = 0;
  real x[G]{}, next[G]{}, bias[G]{};

  __device__ __forceinline__ ActForwardChannel(const ActForwardSweep& of, const GateChannel& at,
                                               bool inside, bool writes)
      : of(of),
        args(of.args),
        at(at),
        inside(inside),
        writes(writes),
        leads(writes && at.channel == 0),
        going(at.sequence < args.B && args.T > 0) {
    if (!inside) return;
    h = given(args.h0, at.state());
    carry = Cell::kCarriesC ? given(args.c0, at.state()) : h;
    halt = args.halt_weight[at.channel];
    unrolled<G>([&](int g) { bias[g] = given(args.bias, g * at.D + at.channel); });
    load(0, x);
    load(1, next);
  }
  __device__ __forceinline__ void load(int64_t token, real (&to)[G]) const {
    if (inside && token < args.T) unrolled<G>([&](int g) { to[g] = args.x[at.at(token, G, g)]; });
  }
  __device__ __forceinline__ real* row() const {
    if (of.log == nullptr || cell >= of.rounds) return nullptr;
    return of.log + (at.sequence * of.rounds + cell) * ActRow<Cell>::numbers(args.H);
  }

  // Returns the channel's part of the logit.
  __device__ __forceinline__ real make_cell(const real (&products)[G]) {
    if (!going || !inside) return 0;
    real in[G], s[G];
    unrolled<G>([&](int g) {
      in[g] = n == 1 ? x[g] + args.flag[g * at.D + at.channel] : x[g];
      s[g] = products[g] + bias[g];
    });
    const CellStep<real> now = Cell::step(in, s, carry);
    h = now.h;
    carry = now.carry;
    if (!writes) return 0;
    if (real* const kept = row(); kept != nullptr) {
      const auto keep = [&](int part, real value) { kept[part * args.H + at.channel] = value; };
      unrolled<kRecurrentSaved>([&](int k) { keep(k, now.saved[k]); });
      keep(kActH, h);
      if constexpr (Cell::kCarriesC) keep(kActC, carry);
    }
    return halt * h;
  }

  __device__ __forceinline__ void decide(real p) {
    if (!going) return;
    const bool halts = sum + p >= 1 - args.epsilon || n == args.max_steps;
    const real weight = halts ? 1 - sum : p;
    mean_h = n == 1 ? weight * h : mean_h + weight * h;
    if constexpr (Cell::kCarriesC) mean_c = n == 1 ? weight * carry : mean_c + weight * carry;
    if (leads)
      if (real* const kept = row(); kept != nullptr) {
        kept[ActRow<Cell>::kParts * args.H] = p;
        kept[ActRow<Cell>::kParts * args.H + 1] = weight;
      }
    ++cell;
    if (halts) return end_token(weight);
    sum += p;
    ++n;
  }

  __device__ __forceinline__ void end_token(real weight) {
    if (writes) {
      args.h[at.at(t)] = mean_h;
      if constexpr (Cell::kCarriesC) args.c[at.at(t)] = mean_c;
    }
    if (leads) {
      args.steps[at.sequence * args.T + t] = n;
      args.ponder[at.sequence * args.T + t] = static_cast<real>(n) + weight;
    }
    h = mean_h;
    carry = Cell::kCarriesC ? mean_c : mean_h;
    sum = 0;
    n = 1;
    going = ++t < args.T;
    unrolled<G>([&](int g) { x[g] = next[g]; });
    load(t + 1, next);
    if (inside && t + kGateAhead < args.T)
      unrolled<G>([&](int g) { bring_near(args.x + at.at(t + kGateAhead, G, g)); });
  }
};

template <class Cell, int R, int Held>
__global__ void __launch_bounds__(gate_threads(Held))
    act_forward_kernel(const ActForwardSweep of, const GatePlan plan) {
  extern __shared__ GateQuad gate_room[];
  constexpr int G = Cell::kGates;
  const GateSizes sizes = of.sizes();
  const GateLane<R> lane(sizes);
  const GateVectors room(gate_room, plan, G, R);
  const GateWeights<R, G, Held, false> weights(lane, sizes, plan, of.args.weight, gate_room);
  real *const h = room[0], *const logits = room[1];
  const int own = lane.row * plan.stride + lane.channel;
  ActForwardChannel<Cell> channel(of, lane.at, lane.inside, lane.writes);
  const real halt_bias = *of.args.halt_bias;
  if (lane.writes) h[own] = channel.h;
  __syncthreads();
  while (__any_sync(kAllLanes, channel.going)) {  // the same in all warps: each has all rows
    real sums[R][G]{}, products[G];
    weights.multiply(h, sums);
    sums_of_lanes(sums, lane.part, products);
    tell_warp_sum<R>(channel.make_cell(products), lane.row, logits);
    __syncthreads();
    channel.decide(sigmoid(sum_of_warps<R>(logits, lane.row) + halt_bias));
    if (lane.writes) h[own] = channel.h;
    __syncthreads();
  }
  if (channel.leads && of.cells != nullptr) of.cells[lane.at.sequence] = channel.cell;
}

template <class Cell>
void start_forward(Cuda cuda, std::string_view name, const ActForwardSweep& of) {
  with_gate_form(of.sizes(), [&](auto rows, auto held) {
    constexpr int R = decltype(rows)::value, Held = decltype(held)::value;
    const GateStart at = gate_start<R, Held, false>(cuda, of.sizes(), Cell::kGates, of.args.weight);
    start(cuda, name, act_forward_kernel<Cell, R, Held>, at.grid, of, at.plan);
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const ActForward& args) { return !kDouble && args.H <= kMostOfHead; }

void run(Cuda cuda, const ActForward& args) {
  if (args.log != nullptr) args.log->cells.assign(args.B, 0);
  if (kDouble || args.B == 0 || args.T == 0) return;
  constexpr int64_t kCellsOfToken = 3;  // for which there is room at first
  const bool lstm = args.cell == RecurrentCell::lstm;
  const auto sweep = [&](const ActForwardSweep& of) {
    if constexpr (!kDouble)
      lstm ? start_forward<LstmCell>(cuda, "act_lstm_forward", of)
           : start_forward<GruCell>(cuda, "act_gru_forward", of);
  };
  if (args.log == nullptr) return sweep({args, nullptr, 0, nullptr});
  const IntTensor cells(cuda.context, Shape{args.B});
  int64_t rounds = std::min(args.max_steps, kCellsOfToken) * args.T, most = 0;
  for (;; rounds = most) {  // once more where there are more cells, whose number is known then
    const Tensor log(cuda.context, Shape{args.B, rounds,
                                         lstm ? ActRow<LstmCell>::numbers(args.H)
                                              : ActRow<GruCell>::numbers(args.H)});
    sweep({args, log.data(), rounds, cells.data()});
    args.log->cells = cells.to_vector();
    most = *std::max_element(args.log->cells.begin(), args.log->cells.end());
    if (most > rounds) continue;
    args.log->rounds = rounds;
    args.log->blocks = {{0, args.B, {log}}};
    return;
  }
}

}  // namespace fprnn
