// A row of logits belongs to one warp: its largest, its sum of exponentials, its loss; backward reads
// the row once more. Bytes bound both.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/cross_entropy.h>

namespace fprnn {

namespace cuda {
namespace {

// One block: the mask's sum in double, each thread's share in order, with several reads on their way.
__global__ void check_targets_kernel(CheckTargets args, FaultNote note) {
  __shared__ double shared[kWarp];
  constexpr int kAtOnce = 8;
  double total = 0;
  for (int64_t first = threadIdx.x; first < args.rows; first += kAtOnce * blockDim.x) {
    real mask[kAtOnce];
    int32_t target[kAtOnce];
    unrolled<kAtOnce>([&](int k) {
      const int64_t i = first + k * blockDim.x;
      mask[k] = i < args.rows ? args.mask[i] : real(0);
      target[k] = i < args.rows ? args.targets[i] : 0;
    });
    unrolled<kAtOnce>([&](int k) {
      total += mask[k];
      if (mask[k] != 0 && (target[k] < 0 || target[k] >= args.V))
        note(Fault::Rule::target, target[k], first + k * blockDim.x, args.V);
    });
  }
  total = block_sum(total, shared);
  if (threadIdx.x != 0) return;
  if (!(total > 0)) note(Fault::Rule::mask, 0, 0, 0);
  *args.total = static_cast<real>(total);
}

__device__ int64_t within(int32_t target, int64_t V) {
  return target < 0 || target >= V ? 0 : target;
}

__global__ void cross_entropy_forward_kernel(CrossEntropyForward args) {
  const int64_t row = row_of_warp();
  const int lane = lane_of();
  if (row >= args.rows) return;
  const real* logits = args.logits + row * args.V;
  const real mask = args.mask[row];
  const real of_target = logits[within(args.targets[row], args.V)];
  real largest = logits[0];
  for (int64_t i = lane; i < args.V; i += kWarp)
    if (!(logits[i] <= largest)) largest = logits[i];
  largest = warp_max(largest);
  real total = 0;
  for (int64_t i = lane; i < args.V; i += kWarp) total += exp(logits[i] - largest);
  total = warp_sum(total);
  real all = 0;  // how far all lie below the largest
  if (args.smoothing > 0) {
    for (int64_t i = lane; i < args.V; i += kWarp) all += largest - logits[i];
    all = warp_sum(all);
  }
  if (lane != 0) return;
  const real log_total = static_cast<real>(::log(static_cast<double>(total)));
  const LogSum log_sum = magnitude(largest) < LogSum::kOneNumber ? LogSum{largest + log_total}
                                                                 : LogSum{largest, log_total};
  args.log_sum[row] = log_sum;
  real below = log_sum.high - of_target;
  if (args.smoothing > 0)
    below += args.smoothing * (all / static_cast<real>(args.V) + (log_sum.high - largest) - below);
  args.loss[row] = mask == 0 ? 0 : mask * (below + log_sum.low);
}

__global__ void cross_entropy_backward_kernel(CrossEntropyBackward args) {
  const int64_t row = row_of_warp();
  if (row >= args.rows) return;
  const real* logits = args.logits + row * args.V;
  const real mask = args.mask[row], weight = *args.dloss * mask / *args.total;
  const LogSum log_sum = args.log_sum[row];
  const int64_t target = within(args.targets[row], args.V);
  const real share = weight * args.smoothing / static_cast<real>(args.V),
             of_target = weight * (1 - args.smoothing);
  for (int64_t i = lane_of(); i < args.V; i += kWarp) {
    const real p = mask == 0 ? 0 : weight * exp(logits[i] - log_sum.high - log_sum.low) - share;
    args.dlogits[row * args.V + i] = mask != 0 && i == target ? p - of_target : p;
  }
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const CheckTargets& args) {
  start(cuda, "check_targets", check_targets_kernel, {.blocks = 1, .threads = 1024}, args,
        fault_note(cuda));
}

void run(Cuda cuda, const CrossEntropyForward& args) {
  start(cuda, "cross_entropy_forward", cross_entropy_forward_kernel, rows_by_warps(args.rows),
        args);
}

void run(Cuda cuda, const CrossEntropyBackward& args) {
  start(cuda, "cross_entropy_backward", cross_entropy_backward_kernel, rows_by_warps(args.rows),
        args);
}

}  // namespace fprnn
