// A row of an iterate belongs to one warp.
#include <fprnn/autograd/fixed_point.h>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 256;

__global__ void row_residuals_kernel(RowResiduals args) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= args.rows) return;
  const Larger larger;
  real difference = 0, size = 0;
  for (int64_t i = row * args.D + threadIdx.x % kWarp; i < (row + 1) * args.D; i += kWarp) {
    difference = larger(magnitude(args.f[i] - args.y[i]), difference);
    size = larger(magnitude(args.f[i]), size);
  }
  difference = warp_max(difference);
  size = warp_max(size);
  if (threadIdx.x % kWarp == 0) args.residual[row] = difference / (size + static_cast<real>(1e-8));
}

__global__ void largest_of_rows_kernel(LargestOfRows args) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
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
  start(cuda, "row_residuals", row_residuals_kernel,
        {.blocks = ceil_div(args.rows, kThreads / kWarp), .threads = kThreads}, args);
}

void run(Cuda cuda, const LargestOfRows& args) {
  start(cuda, "largest_of_rows", largest_of_rows_kernel,
        {.blocks = ceil_div(args.rows, kThreads / kWarp), .threads = kThreads}, args);
}

void run(Cuda cuda, const DampedUpdate& args) {
  for_each(cuda, "damped_update", args.rows * args.D, [args] __device__(int64_t i) {
    const real step = args.step[i / args.D];
    if (step == 0) return;
    args.y[i] = step == 1 ? args.f[i] : step * args.f[i] + (1 - step) * args.y[i];
  });
}

}  // namespace fprnn
