// The selective scan (ops/selective_scan.md). A warp takes 32 neighbouring channels of a sequence
// through time; up to 4 warps, a block, share the sequence's b and c. A lane holds a tile of 4
// channels x 4 states, so that the sums a step asks for, those over states (y, du, ddelta) as well
// as those over channels (db, dc), are mostly sums within a lane: with 16 states of one channel in
// a lane, db and dc alone would take 31 shuffles a step. Sums over states then cross 4 lanes, after
// which each lane has one channel, its own. More than 16 states go through a chunk of 16 steps in
// groups; what a group carries is in memory meanwhile, in the place of the result it becomes.
//
// What does not exist is harmless instead of special. A state beyond N has a = b = c = 0; a step
// beyond T (also where T is 0, of which one empty chunk is made) has a step size of 0, and so
// changes nothing.
//
// Rows of u, delta and dy come by cp.async while the chunk before is worked on. For each of 32
// channels x 16 states a step takes 16 exponentials, 8 cycles each of a scheduler's quarter of the
// unit that has them. Forward: 128 cycles of those beside some 150 instructions. Backward: 256 and
// some 390, as it recomputes the states of a chunk from a checkpoint, and on the way back the
// factors again. Every other state is kept, in shared memory; the one between follows from the
// factor that is needed anyway. That is 16 KB a warp instead of 32: two warps a scheduler fit. A
// pair of steps leaves its lanes' sums for db and dc where its state was, and the block adds them
// up when the chunk is done.
//
// The gradient: cuda/selective_scan_gradient.cu.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/selective_scan.cuh>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

namespace cuda {
namespace {

// The tile through a chunk. Groups of states add to y what the one before has left there.
template <bool Plain>
__device__ __forceinline__ void forward_chunk(const Lane& at, const Rows& dts, const Rows& u,
                                              const Rows& inputs, const StepDirections& directions,
                                              const Chunk& chunk, const StateTile& rate, real skip,
                                              StateTile& h) {
  real* y = at.args.y + at.own(chunk.begin);
  for (int t = 0; t < chunk.count; t += 4) {
#pragma unroll
    for (int k = 0; k < 4; ++k, y += at.args.D) {
      const Four dt = four(&dts[t + k][at.channel]), input = four(&inputs[t + k][at.channel]);
      const Four b = four(&directions.b[t + k][at.state]), c = four(&directions.c[t + k][at.state]);
      const real keep = Plain ? real(1) : at.keep(chunk.begin + t + k);
      real sums[4]{};
      unrolled<4>([&](int i) {
        unrolled<4>([&](int j) {
          const real a = decay_factor<Plain>(dt.v[i], rate.v[i][j], keep, at.args.negative).value;
          h.v[i][j] = a * h.v[i][j] + input.v[i] * b.v[j];
          sums[i] += h.v[i][j] * c.v[j];
        });
      });
      const real sum = sum_states(at, sums);
      if (t + k < chunk.count && at.inside())
        *y = sum + (!Plain && chunk.group > 0 ? *y : skip * u[t + k][at.lane]);
    }
  }
}

template <bool Plain>
__global__ void __launch_bounds__(kWarps* kWarp, 4)
    selective_scan_forward_kernel(const SelectiveScanForward args, const SelectivePlan plan) {
  extern __shared__ Four shared[];
  auto& room = *reinterpret_cast<Room<ForwardRows>*>(shared);
  const Lane at(args, plan);
  ForwardRows& rows = room.warps[threadIdx.x / kWarp];
  const real bias = at.per_channel(args.delta_bias), skip = at.per_channel(args.skip);
  const int64_t groups = Plain ? 1 : plan.groups;
  const auto fetch = [&](const Chunk& chunk, unsigned unit) {
    if (chunk.number == plan.chunks) return;
    fetch_directions(at, chunk, room.directions[unit % 2]);
    const int64_t side = chunk.number % 2;
    if (chunk.group == 0)
      for (int row = 0; row < kChunk; row += 4)
        fetch_rows(at, {{args.u, rows.u[side]}, {args.delta, rows.delta[side]}}, row,
                   chunk.begin + row);
    commit_async();
  };

  StateTile rate, h;
  Chunk chunk(args, 0, 0);
  fetch(chunk, 0);
  for (unsigned unit = 0; chunk.number < plan.chunks; ++unit) {
    const bool first = chunk.number == 0, last = chunk.number == plan.chunks - 1;
    if (first || groups > 1) {
      rate = at.load_rate(chunk.group);
      h = at.load(at.matrix(first ? args.h0 : args.state), chunk.group);
    }
    if (!first && args.checkpoints != nullptr)
      at.store(at.checkpoint(chunk.number), chunk.group, h);
    wait_async<0>();
    __syncthreads();
    const bool more = chunk.group + 1 < groups;
    const Chunk next(args, chunk.number + !more, more ? chunk.group + 1 : 0);
    fetch(next, unit + 1);
    Rows &dt = rows.delta[chunk.number % 2], &u = rows.u[chunk.number % 2];
    if (chunk.group == 0) make_steps<false>(at, bias, chunk.count, dt, u, rows.input, nullptr);
    forward_chunk<Plain>(at, dt, u, rows.input, room.directions[unit % 2], chunk, rate, skip, h);
    if (last || groups > 1) at.store(at.matrix(args.state), chunk.group, h);
    chunk = next;
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const SelectiveScanForward& args) {
  if (args.D == 0) return;
  const SelectivePlan plan = plan_selective(args, selective_blocks<ForwardRows>(cuda, args.D), true,
                                            quads_aligned(args.state));
  start(cuda, "selective_scan_forward",
        is_plain(args) ? selective_scan_forward_kernel<true> : selective_scan_forward_kernel<false>,
        selective_grid<ForwardRows>(args, plan), args, plan);
}

}  // namespace fprnn
