// The mLSTM's gradient in chunks (ops/mlstm.md, "On a GPU"): what each step's division moves, then the
// cotangents of the state behind every chunk, then dq, dk and dv of each chunk, then the gates'.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/mlstm_chunk.cuh>
#include <fprnn/cuda/mlstm_states.cuh>

namespace fprnn {

namespace cuda {
namespace {

using namespace mlstm_chunks;

// moved <- dh . h of every step, a warp each.
__global__ void __launch_bounds__(kThreads) mlstm_moved_kernel(const Work work, int64_t steps) {
  const MlstmBackward& args = work.args;
  const int64_t step = row_of_warp<kWarps>();
  if (step >= steps) return;
  const real *const dh = args.dh + step * args.d, *const h = args.h + step * args.d;
  real sum = 0;
  for (int64_t i = lane_of(); i < args.d; i += kWarp) sum += dh[i] * h[i];
  sum = warp_sum(sum);
  if (lane_of() == 0) work.moved[step] = sum;
}

// A step as its lane has it.
struct GateStep {
  real igate = 0, fgate = 0, m = 0, before = 0, r = 0, moved = 0, column = 0;
  __device__ __forceinline__ GateStep(const Head& at, int64_t t) {
    if (t < 0 || t >= at.args.T) return;
    const int64_t step = at.step(t);
    igate = at.args.igate[step];
    fgate = at.args.fgate[step];
    m = at.args.steps[step];
    before = at.m(t - 1);
    r = at.reads()[step];
    moved = at.work.moved[step];
    column = at.args.digate[step];
  }
};

// Sums over the lane and those behind it.
__device__ __forceinline__ real sum_behind(real x) {
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const real behind = __shfl_down_sync(kAllLanes, x, distance);
    if (lane_of() + distance < kWarp) x += behind;
  }
  return x;
}

// A warp a head, from the last step to the first; lanes have one of 32. digate comes as the sums of the
// columns of dX. What eps gives to m goes back through the maxima, a step after the other.
__global__ void __launch_bounds__(kWarp) mlstm_gates_kernel(const Work work) {
  const Head at(work, blockIdx.x);
  const MlstmBackward& args = work.args;
  const int lane = lane_of(), parts = parts_of_flow(work);
  const auto part_of_flow = [&](int64_t boundary) {
    return boundary >= 0 && lane < parts
               ? work.flows[(at.unit * (work.chunks + 1) + boundary) * parts + lane]
               : real(0);
  };
  real flow = warp_sum(part_of_flow(work.chunks)), next_flow = part_of_flow(work.chunks - 1);
  real behind = 0, dm = (args.dm == nullptr ? real(0) : args.dm[at.unit]) - flow;
  int64_t begin = (work.chunks * kHalves - 1) * kWarp;
  GateStep next(at, begin + lane);
#pragma unroll 1
  for (; begin >= 0; begin -= kWarp) {
    const GateStep own = next;
    const int64_t t = begin + lane;
    next = GateStep(at, t - kWarp);
    const bool exists = t < args.T;
    const ValueAndSlope forget = log_sigmoid(own.fgate);
    const bool kept = !exists || forget.value + own.before >= own.igate;
    const Division of(own.m, own.r, own.moved, args.eps);
    real x = exists ? of.row - own.column : real(0);
    if (t == ::min(args.T, (begin / kSteps + 1) * kSteps) - 1) x += flow;
    const real dforget = sum_behind(x) + behind;
    behind = __shfl_sync(kAllLanes, dforget, 0);
    const real moved = exists ? of.dm : real(0);
    const unsigned all_kept = __ballot_sync(kAllLanes, kept);
    real mine = 0;
    unrolled<kWarp>([&](int i) {
      const int from = kWarp - 1 - i;
      dm += __shfl_sync(kAllLanes, moved, from);
      if (from == lane) mine = dm;
      if ((all_kept >> from & 1u) == 0) dm = 0;
    });
    if (begin % kSteps == 0) {  // to the chunk before
      behind = 0;
      flow = warp_sum(next_flow);
      next_flow = part_of_flow(begin / kSteps - 1);
    }
    if (exists) {
      const int64_t step = at.step(t);
      args.digate[step] = own.column + (kept ? real(0) : mine);
      args.dfgate[step] = (dforget + (kept ? mine : real(0))) * forget.slope;
    }
  }
  if (args.dm0 != nullptr && lane == 0) args.dm0[at.unit] = dm + flow;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const MlstmBackward& args) {
  Work work = work_of(args);
  const int64_t steps = args.B * args.T * args.H;
  const Tensor moved(cuda.context, Shape{steps}),
      cotangents(cuda.context, Shape{args.B, args.H, work.chunks, args.d + 1, args.d}),
      flows(cuda.context, Shape{args.B, args.H, work.chunks + 1, parts_of_flow(work)});
  work.moved = moved.data();
  work.cotangents = cotangents.data();
  work.flows = flows.data();
  const bool exact = gpu(cuda).matmul_precision == MatmulPrecision::fp32;
  start(cuda, "mlstm_moved", mlstm_moved_kernel, rows_by_warps<kWarps>(steps), work, steps);
  run_states<true>(cuda, "mlstm_cotangents", work, exact);
  run_chunks<Of::dq, Of::dk, Of::dv>(cuda, "mlstm_backward", work, exact);
  start(cuda, "mlstm_gates", mlstm_gates_kernel, {.blocks = args.B * args.H, .threads = kWarp},
        work);
}

}  // namespace fprnn
