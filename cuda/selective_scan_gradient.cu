// The selective scan's gradient, chunks from the last to the first, by the warps of cuda/selective_scan.cu. Sums over
// blocks and sequences are shares in memory (cuda/shares.cuh).
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/selective_scan.cuh>
#include <fprnn/cuda/shares.cuh>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

namespace cuda {
namespace {

// The states of a chunk from the one before it; that before each pair of steps is kept.
template <bool Plain>
__device__ __forceinline__ void recompute_chunk(const Lane& at, const StepDirections& directions,
                                                const Chunk& chunk, const StateTile& rate,
                                                BackwardRows& rows, StateTile& h) {
  for (int t = 0; t < chunk.count; t += 4) {
    unrolled<4>([&](int k) {
      const Four dt = four(&rows.delta[t + k][at.channel]);
      const Four input = four(&rows.input[t + k][at.channel]);
      const Four b = four(&directions.b[t + k][at.state]);
      const real keep = Plain ? real(1) : at.keep(chunk.begin + t + k);
      unrolled<4>([&](int i) {
        if (k % 2 == 0)
          rows.pairs[(t + k) / 2][i][at.lane] = {h.v[i][0], h.v[i][1], h.v[i][2], h.v[i][3]};
        unrolled<4>([&](int j) {
          const real a = decay_factor<Plain>(dt.v[i], rate.v[i][j], keep, at.args.negative).value;
          h.v[i][j] = a * h.v[i][j] + input.v[i] * b.v[j];
        });
      });
    });
  }
}

// What a lane has of backward's parameters, and what passes from a step to the one before it.
struct Cotangent {
  StateTile rate;
  StateTile g;      // a_{t+1} g_{t+1}
  StateTile da;     // sum so far
  StateTile after;  // the state after the step
  real skip, dskip, dbias;
};
// One step of a pair.
struct BackwardStep {
  Four dt, input, dy, b, c;
  Four db{}, dc{};                   // of the tile's states
  real dinput[4]{}, dexponent[4]{};  // of its channels; of dt rate ln 2

  __device__ __forceinline__ BackwardStep(const Lane& at, const BackwardRows& rows,
                                          const StepDirections& directions, int t)
      : dt(four(&rows.delta[t][at.channel])),
        input(four(&rows.input[t][at.channel])),
        dy(four(&rows.dy[t][at.channel])),
        b(four(&directions.b[t][at.state])),
        c(four(&directions.c[t][at.state])) {}

  // a is the factor, `before` and `after` the states around the step. Its slope times g and the state
  // before is the cotangent of dt A.
  __device__ __forceinline__ void state(int i, int j, const ValueAndSlope& a, real rate,
                                        real before, real after, real& g, real& da) {
    g += dy.v[i] * c.v[j];
    db.v[j] += g * input.v[i];
    dc.v[j] += after * dy.v[i];
    dinput[i] += g * b.v[j];
    const real through = g * a.slope * before;
    g *= a.value;
    dexponent[i] += through * rate;
    da += through * dt.v[i];
  }
};

// du and ddelta of step t, where the sums over earlier groups of states are until the last.
template <bool Plain>
__device__ __forceinline__ void store_step(const Lane& at, const SelectiveScanBackward& args,
                                           const BackwardRows& rows, const Chunk& chunk, int t,
                                           const BackwardStep& step, Cotangent& back) {
  real dinput = sum_states(at, step.dinput), dexponent = sum_states(at, step.dexponent);
  const int64_t index = at.own(chunk.begin) + t * at.args.D;
  const bool exists = at.inside() && t < chunk.count;
  if (!Plain && chunk.group > 0 && exists) {
    dinput += args.du[index];
    dexponent += args.ddelta[index];
  }
  real du = dinput, ddelta = dexponent;
  if (Plain || chunk.group + 1 == at.plan.groups) {
    const real u = rows.u[t][at.lane], dy = rows.dy[t][at.lane];
    du = dinput * rows.delta[t][at.lane] + back.skip * dy;
    ddelta = (dexponent * kLn2 + dinput * u) * rows.slope[t][at.lane];
    back.dskip += dy * u;
    back.dbias += ddelta;
  }
  if (exists) {
    args.du[index] = du;
    args.ddelta[index] = ddelta;
  }
}

// Steps t and t + 1 of a chunk, the later first.
template <bool Plain>
__device__ __forceinline__ void backward_pair(const Lane& at, const SelectiveScanBackward& args,
                                              const StepDirections& directions, const Chunk& chunk,
                                              int t, BackwardRows& rows, Cotangent& back) {
  BackwardStep earlier(at, rows, directions, t), later(at, rows, directions, t + 1);
  const real earlier_keep = Plain ? real(1) : at.keep(chunk.begin + t);
  const real later_keep = Plain ? real(1) : at.keep(chunk.begin + t + 1);
  auto& pair = rows.pairs[t / 2];
  unrolled<4>([&](int i) {
    const Four before = pair[i][at.lane];
    unrolled<4>([&](int j) {
      const real rate = back.rate.v[i][j];
      real &g = back.g.v[i][j], &da = back.da.v[i][j];
      const bool negative = at.args.negative;
      const ValueAndSlope a = decay_factor<Plain>(earlier.dt.v[i], rate, earlier_keep, negative);
      const ValueAndSlope a_later = decay_factor<Plain>(later.dt.v[i], rate, later_keep, negative);
      const real between = a.value * before.v[j] + earlier.input.v[i] * earlier.b.v[j];
      later.state(i, j, a_later, rate, between, back.after.v[i][j], g, da);
      earlier.state(i, j, a, rate, before.v[j], between, g, da);
      back.after.v[i][j] = before.v[j];
    });
  });
  pair[0][at.lane] = earlier.db;
  pair[1][at.lane] = earlier.dc;
  pair[2][at.lane] = later.db;
  pair[3][at.lane] = later.dc;
  store_step<Plain>(at, args, rows, chunk, t + 1, later, back);
  store_step<Plain>(at, args, rows, chunk, t, earlier, back);
}

// The block's shares of db and dc, (B, blocks, T, N): a thread adds up four states of a step. Odd
// steps take the lanes in another order, which keeps 8 threads out of each other's banks.
__device__ __forceinline__ void sum_directions(const Lane& at, const SelectiveScanBackward& args,
                                               const BackwardRows* warps, const Chunk& chunk) {
  const SelectiveScanForward& in = args.forward;
  for (int i = threadIdx.x; i < 2 * kChunk * 4; i += blockDim.x) {
    const int state = i % 4, t = i / 4 % kChunk, which = i / 4 / kChunk;
    const int64_t step = chunk.begin + t, n = chunk.group * kGroup + state * 4;
    if (t >= chunk.count || n >= in.N) continue;
    Four sum{};
    for (int warp = 0; warp < at.plan.warps; ++warp)
      unrolled<kWarp / 4>([&](int r) {
        const Four x = warps[warp].pairs[t / 2][t % 2 * 2 + which][(r ^ (t % 2)) * 4 + state];
        unrolled<4>([&](int j) { sum.v[j] += x.v[j]; });
      });
    real* to = (which == 0 ? args.db : args.dc) +
               ((at.b * at.plan.blocks + at.block) * in.T + step) * in.N + n;
    if (at.plan.state_quads)
      *reinterpret_cast<Four*>(to) = sum;
    else
      unrolled<4>([&](int j) {
        if (n + j < in.N) to[j] = sum.v[j];
      });
  }
}

// args.db and dc are shares (B, blocks, T, N), da, dskip and ddelta_bias (B, ...); dh0 is also
// where groups of states carry their cotangents from chunk to chunk, da their sums.
template <bool Plain>
__global__ void __launch_bounds__(kWarps* kWarp, 2)
    selective_scan_backward_kernel(const SelectiveScanBackward args, const SelectivePlan plan) {
  extern __shared__ Four shared[];
  auto& room = *reinterpret_cast<Room<BackwardRows>*>(shared);
  const SelectiveScanForward& in = args.forward;
  const Lane at(in, plan);
  BackwardRows& rows = room.warps[threadIdx.x / kWarp];
  const real bias = at.per_channel(in.delta_bias);
  const int64_t groups = Plain ? 1 : plan.groups;
  const auto fetch = [&](int64_t begin, int row) {
    fetch_rows(at, {{in.u, rows.u}, {in.delta, rows.delta}, {args.dy, rows.dy}}, row, begin + row);
  };

  Cotangent back{};
  back.skip = at.per_channel(in.skip);
  Chunk chunk(in, plan.chunks - 1, 0);
  for (int row = 0; row < kChunk; row += 4) fetch(chunk.begin, row);
  fetch_directions(at, chunk, room.directions[0]);
  commit_async();
  for (unsigned unit = 0; chunk.number >= 0; ++unit) {
    if (unit == 0 || groups > 1) {
      const bool last = chunk.number == plan.chunks - 1;
      back.rate = at.load_rate(chunk.group);
      back.g = at.load(at.matrix(last ? args.dstate : args.dh0), chunk.group);
      back.da = at.load(last ? nullptr : at.matrix(args.da), chunk.group);
    }
    back.after = at.load(at.before(chunk.number), chunk.group);
    wait_async<0>();
    __syncthreads();
    const bool more = chunk.group + 1 < groups;
    const Chunk next(in, chunk.number - !more, more ? chunk.group + 1 : 0);
    if (next.number >= 0) fetch_directions(at, next, room.directions[(unit + 1) % 2]);
    const StepDirections& directions = room.directions[unit % 2];
    if (chunk.group == 0)
      make_steps<true>(at, bias, chunk.count, rows.delta, rows.u, rows.input, &rows.slope);
    recompute_chunk<Plain>(at, directions, chunk, back.rate, rows, back.after);
    for (int t = kChunk - 4; t >= 0; t -= 4) {
      if (t < chunk.count) {
        backward_pair<Plain>(at, args, directions, chunk, t + 2, rows, back);
        backward_pair<Plain>(at, args, directions, chunk, t, rows, back);
        __syncwarp();
      }
      // These rows make room for those of the chunk before.
      if (next.group == 0 && next.number >= 0) fetch(next.begin, t);
    }
    commit_async();
    __syncthreads();
    sum_directions(at, args, room.warps, chunk);
    if (chunk.number == 0 || groups > 1) {
      if (args.dh0 != nullptr) at.store(at.matrix(args.dh0), chunk.group, back.g);
      at.store(at.matrix(args.da), chunk.group, back.da);
    }
    chunk = next;
  }
  if (!at.inside()) return;
  args.dskip[at.b * in.D + at.first + at.lane] = back.dskip;
  args.ddelta_bias[at.b * in.D + at.first + at.lane] = back.dbias;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const SelectiveScanBackward& args) {
  const SelectiveScanForward& in = args.forward;
  const int64_t blocks = selective_blocks<BackwardRows>(cuda, in.D);
  const Shares db(cuda, args.db, in.B, blocks, in.T * in.N);
  const Shares dc(cuda, args.dc, in.B, blocks, in.T * in.N);
  const Shares da(cuda, args.da, 1, in.B, in.D * in.N), dskip(cuda, args.dskip, 1, in.B, in.D);
  const Shares dbias(cuda, args.ddelta_bias, 1, in.B, in.D);
  SelectiveScanBackward shares = args;
  shares.db = db.data();
  shares.dc = dc.data();
  shares.da = da.data();
  shares.dskip = dskip.data();
  shares.ddelta_bias = dbias.data();
  Tensor carry;
  if (args.dh0 == nullptr && in.N > kGroup) {
    carry = Tensor(cuda.context, Shape{in.B, in.D, in.N});
    shares.dh0 = carry.data();
  }
  if (in.D > 0) {
    const SelectivePlan plan =
        plan_selective(in, blocks, quads_aligned(args.dy),
                       quads_aligned(args.dstate, shares.db, shares.dc, shares.da, shares.dh0));
    start(
        cuda, "selective_scan_backward",
        is_plain(in) ? selective_scan_backward_kernel<true> : selective_scan_backward_kernel<false>,
        selective_grid<BackwardRows>(in, plan), shares, plan);
  }
  add_shares(cuda, {&db, &dc, &da, &dskip, &dbias});
}

}  // namespace fprnn
