// The weight norm (ops/linear.h): a warp takes a row, reads it once for its length, and then from the cache.
#include <fprnn/cuda/fp_mamba_token.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/linear.h>

#include <limits>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr real kShortest = std::numeric_limits<real>::min();  // a length is at least this

__device__ __forceinline__ int64_t row_of_warp() {
  return int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
}
Grid rows_by_warps(int64_t rows) {
  return {.blocks = ceil_div(rows, kThreads / kWarp), .threads = kThreads};
}

// K counts packs of W.
template <int W>
__global__ void weight_norm_forward_kernel(const WeightNormForward args, int64_t K) {
  const int64_t row = row_of_warp();
  if (row >= args.N) return;
  const Pack<W>* direction = packs<W>(args.direction) + row * K;
  real squares = 0;
  for (int64_t i = lane_of(); i < K; i += kWarp) {
    const Pack<W> v = direction[i];
#pragma unroll
    for (int j = 0; j < W; ++j) squares += v.v[j] * v.v[j];
  }
  const real factor = args.magnitude[row] * inverse_length(warp_sum(squares), kShortest);
  for (int64_t i = lane_of(); i < K; i += kWarp) {
    Pack<W> v = direction[i];
#pragma unroll
    for (int j = 0; j < W; ++j) v.v[j] *= factor;
    packs<W>(args.weight)[row * K + i] = v;
  }
}

template <int W>
__global__ void weight_norm_backward_kernel(const WeightNormBackward args, int64_t K) {
  const int64_t row = row_of_warp();
  if (row >= args.N) return;
  const Pack<W>* direction = packs<W>(args.direction) + row * K;
  const Pack<W>* dweight = packs<W>(args.dweight) + row * K;
  real squares = 0, along = 0;
  for (int64_t i = lane_of(); i < K; i += kWarp) {
    const Pack<W> v = direction[i], dw = dweight[i];
#pragma unroll
    for (int j = 0; j < W; ++j) {
      squares += v.v[j] * v.v[j];
      along += v.v[j] * dw.v[j];
    }
  }
  const real inverse = inverse_length(warp_sum(squares), kShortest);
  along = inverse * warp_sum(along);
  const real factor = args.magnitude[row] * inverse;
  const real pull = inverse * normal_part(inverse, kShortest, along);
  for (int64_t i = lane_of(); i < K; i += kWarp) {
    const Pack<W> v = direction[i];
    Pack<W> dv = dweight[i];
#pragma unroll
    for (int j = 0; j < W; ++j) dv.v[j] = factor * (dv.v[j] - pull * v.v[j]);
    packs<W>(args.ddirection)[row * K + i] = dv;
  }
  if (lane_of() == 0) args.dmagnitude[row] = along;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const WeightNormForward&) { return true; }

void run(Cuda cuda, const WeightNormForward& args) {
  constexpr int kWidth = Quad::kCount;
  if (args.K % kWidth == 0 && quads_aligned(args.direction, args.weight))
    start(cuda, "weight_norm_forward", weight_norm_forward_kernel<kWidth>, rows_by_warps(args.N),
          args, args.K / kWidth);
  else
    start(cuda, "weight_norm_forward", weight_norm_forward_kernel<1>, rows_by_warps(args.N), args,
          args.K);
}

void run(Cuda cuda, const WeightNormBackward& args) {
  constexpr int kWidth = Quad::kCount;
  if (args.K % kWidth == 0 && quads_aligned(args.direction, args.dweight, args.ddirection))
    start(cuda, "weight_norm_backward", weight_norm_backward_kernel<kWidth>, rows_by_warps(args.N),
          args, args.K / kWidth);
  else
    start(cuda, "weight_norm_backward", weight_norm_backward_kernel<1>, rows_by_warps(args.N), args,
          args.K);
}

}  // namespace fprnn
