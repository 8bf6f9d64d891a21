// A row of an iterate belongs to one warp.
#include <fprnn/autograd/iterate.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 256;

// W neighbours at once; D counts packs.
template <int W>
__global__ void row_residuals_kernel(const RowResiduals args, int64_t D) {
  const int64_t row = row_of_warp();
  if (row >= args.rows) return;
  const Larger larger;
  real difference = 0, size = 0;
#pragma unroll 4
  for (int64_t i = row * D + threadIdx.x % kWarp; i < (row + 1) * D; i += kWarp) {
    const Pack<W> f = packs<W>(args.f)[i], y = packs<W>(args.y)[i];
    unrolled<W>([&](int j) {
      difference = larger(magnitude(f.v[j] - y.v[j]), difference);
      size = larger(magnitude(f.v[j]), size);
    });
  }
  difference = warp_max(difference);
  size = warp_max(size);
  if (threadIdx.x % kWarp == 0)
    args.residual[row] = difference / (size + static_cast<real>(kResidualFloor));
}

template <int W>
__global__ void damped_update_kernel(const DampedUpdate args, int64_t D) {
  const int64_t row = row_of_warp();
  if (row >= args.rows) return;
  const real step = args.step[row];
  if (step == 1) return;
#pragma unroll 4
  for (int64_t i = row * D + threadIdx.x % kWarp; i < (row + 1) * D; i += kWarp) {
    Pack<W> next = packs<W>(args.y)[i];
    if (step != 0) {
      const Pack<W> f = packs<W>(args.f)[i];
      unrolled<W>([&](int j) { next.v[j] = step * f.v[j] + (1 - step) * next.v[j]; });
    }
    packs<W>(args.f)[i] = next;
  }
}

// A block takes a sequence. What is not settled is found as the most that is left behind it.
__global__ void __launch_bounds__(kThreads) settle_sequences_kernel(const SettleSequences args) {
  __shared__ real largest[kWarp];
  __shared__ int64_t behind[kWarp];
  const int64_t b = blockIdx.x, T = args.T;
  const int64_t before = args.settled[b];
  if (before == T) return;
  const real* residual = args.residual + b * T;
  real most = 0;
  int64_t left = 0;
  for (int64_t t = threadIdx.x; t < T; t += kThreads) {
    most = Larger()(residual[t], most);
    if (t >= before && !(residual[t] <= args.tolerance)) left = left > T - t ? left : T - t;
  }
  most = block_max(most, largest);
  left = block_max(left, behind);
  const int64_t settled = !args.backwards ? T - left : most <= args.tolerance ? T : 0;
  // Every thread finds the same; what they read is written when all have.
  real best = args.best[b], damping = args.damping[b];
  int32_t since = args.since[b];
  if (most <= best * static_cast<real>(0.9)) {
    best = most;
    since = 0;
  } else if (args.shrink_after > 0 && ++since == args.shrink_after) {
    since = 0;
    damping = damping / 2 > real(1.0 / 64) ? damping / 2 : real(1.0 / 64);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    args.settled[b] = static_cast<int32_t>(settled);
    args.iterations[b] = args.iteration;
    args.best[b] = best;
    args.since[b] = since;
    args.damping[b] = damping;
  }
  for (int64_t t = threadIdx.x; t < T; t += kThreads)
    args.step[b * T + t] = t < settled ? real(0) : damping;
}

__global__ void largest_of_rows_kernel(LargestOfRows args) {
  const int64_t row = row_of_warp();
  if (row >= args.rows) return;
  real most = 0;
  for (int64_t i = threadIdx.x % kWarp; i < args.n; i += kWarp)
    most = Larger()(args.x[row * args.n + i], most);
  most = warp_max(most);
  if (threadIdx.x % kWarp == 0) args.largest[row] = most;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const RowResiduals& args) {
  with_width(args.D, quads_aligned(args.f, args.y), [&](auto width) {
    start(cuda, "row_residuals", row_residuals_kernel<width>, rows_by_warps(args.rows), args,
          args.D / width);
  });
}

void run(Cuda cuda, const LargestOfRows& args) {
  start(cuda, "largest_of_rows", largest_of_rows_kernel, rows_by_warps(args.rows), args);
}

void run(Cuda cuda, const DampedUpdate& args) {
  with_width(args.D, quads_aligned(args.f, args.y), [&](auto width) {
    start(cuda, "damped_update", damped_update_kernel<width>, rows_by_warps(args.rows), args,
          args.D / width);
  });
}

void run(Cuda cuda, const SettleSequences& args) {
  start(cuda, "settle_sequences", settle_sequences_kernel,
        {.blocks = args.T == 0 ? 0 : args.B, .threads = kThreads}, args);
}

}  // namespace fprnn
