#include <fprnn/core/pieces.h>
#include <fprnn/core/vector.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>

#include <cmath>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 256;

// One block a piece of kGrain elements, as on the CPU.
__global__ void sum_of_squares_kernel(SumOfSquares args) {
  __shared__ double shared[kWarp];
  const int64_t begin = int64_t{blockIdx.x} * kGrain, end = min(args.count, begin + kGrain);
  double total = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
    total += static_cast<double>(args.x[i]) * args.x[i];
  total = block_sum(total, shared);
  if (threadIdx.x == 0) args.partial[blockIdx.x] = total;
}

__global__ void max_abs_kernel(MaxAbs args) {
  __shared__ real shared[kWarp];
  const int64_t begin = int64_t{blockIdx.x} * kGrain, end = min(args.count, begin + kGrain);
  real largest = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
    largest = Larger()(magnitude(args.x[i]), largest);
  largest = block_max(largest, shared);
  if (threadIdx.x == 0) args.partial[blockIdx.x] = largest;
}

// One warp a row: lanes keep their best, the larger or else the earlier wins.
__global__ void argmax_kernel(Argmax args) {
  const int64_t row = row_of_warp();
  if (row >= args.rows) return;
  const real* x = args.x + row * args.V;
  const int lane = threadIdx.x % kWarp;
  real best = x[0];
  int64_t place = 0;
  bool broken = false;
  for (int64_t i = lane; i < args.V; i += kWarp) {
    broken |= x[i] != x[i];
    if (x[i] > best) best = x[i], place = i;
  }
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const real other = __shfl_xor_sync(kAllLanes, best, distance);
    const int64_t there = __shfl_xor_sync(kAllLanes, place, distance);
    if (other > best || (other == best && there < place)) best = other, place = there;
  }
  broken = __any_sync(kAllLanes, broken);
  if (lane == 0) args.place[row] = broken ? -1 : static_cast<int32_t>(place);
}

template <int W>
struct AddPack {
  Pack<W>* y;
  const Pack<W>* x;
  __device__ void operator()(int64_t i) const {
    Pack<W> sum = y[i];
    const Pack<W> more = x[i];
    unrolled<W>([&](int j) { sum.v[j] += more.v[j]; });
    y[i] = sum;
  }
};

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const Fill& args) {
  if (args.count == 0) return;
  if (args.value == 0 && !std::signbit(args.value))
    return check(cudaMemsetAsync(args.out, 0, args.count * sizeof(real), stream(cuda)),
                 "filling a tensor");
  for_each(cuda, "fill", args.count,
           [out = args.out, value = args.value] __device__(int64_t i) { out[i] = value; });
}

void run(Cuda cuda, const IntFill& args) {
  for_each(cuda, "int_fill", args.count,
           [out = args.out, value = args.value] __device__(int64_t i) { out[i] = value; });
}

void run(Cuda cuda, const RaiseTo& args) {
  for_each(cuda, "raise_to", args.count,
           [y = args.y, x = args.x] __device__(int64_t i) { y[i] = max(y[i], x[i]); });
}

void run(Cuda cuda, const Argmax& args) {
  start(cuda, "argmax", argmax_kernel, rows_by_warps(args.rows), args);
}

void run(Cuda cuda, const Copy& args) {
  if (args.count == 0) return;
  check(cudaMemcpyAsync(args.to, args.from, args.count * sizeof(real), cudaMemcpyDeviceToDevice,
                        stream(cuda)),
        "copying a tensor");
}

void run(Cuda cuda, const AddInPlace& args) {
  with_width(args.count, quads_aligned(args.y, args.x), [&](auto width) {
    for_each(cuda, "add_in_place", args.count / width,
             AddPack<width>{packs<width>(args.y), packs<width>(args.x)});
  });
}

void run(Cuda cuda, const SumOfSquares& args) {
  start(cuda, "sum_of_squares", sum_of_squares_kernel,
        {.blocks = pieces(args.count, kGrain), .threads = kThreads}, args);
}

void run(Cuda cuda, const MaxAbs& args) {
  start(cuda, "max_abs", max_abs_kernel,
        {.blocks = pieces(args.count, kGrain), .threads = kThreads}, args);
}

}  // namespace fprnn
