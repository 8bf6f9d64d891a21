// What p says of a token without its mixer: the vectors, gates, b and c (ops/fp_mamba_mix.h), for products that no
// team has room for. A warp takes a token, a lane every 32nd of the numbers. Bound by memory.
#include <fprnn/core/vector.h>
#include <fprnn/cuda/mix_token.cuh>
#include <fprnn/ops/elementwise_functions.h>
#include <fprnn/ops/fp_mamba_mix.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kNumbersWarps = 4;  // of a block
__device__ __forceinline__ int64_t token_of_warp() {
  return int64_t{blockIdx.x} * kNumbersWarps + threadIdx.x / kWarp;
}
Grid tokens_by_warps(const FpMambaNumbersForward& in) {
  return {.blocks = ceil_div(in.B * in.T, kNumbersWarps), .threads = kNumbersWarps * kWarp};
}

__global__ void __launch_bounds__(kNumbersWarps* kWarp)
    fp_mamba_numbers_forward_kernel(const FpMambaNumbersForward in) {
  if (token_of_warp() >= in.B * in.T) return;
  const MixToken token(in, token_of_warp());
  const int lane = lane_of();
  const Lengths lengths(in.eps);
  real b_squares = 0, c_squares = 0;
  for (int64_t n = lane; n < in.N; n += kWarp) {
    const real b = lengths.unit * token.p(in.directions + n),
               c = lengths.unit * token.p(in.directions + in.N + n);
    b_squares += b * b;
    c_squares += c * c;
  }
#pragma unroll 8
  for (int64_t j = lane; j < in.V; j += kWarp)
    in.vectors[token.row * in.V + j] = Silu().value(token.p(j));
  for (int64_t j = lane; j < in.G; j += kWarp)
    in.gates[token.row * in.G + j] = sigmoid(token.p(in.V + j));
  const real of_b = in.bc_norm ? lengths.inverse(warp_sum(b_squares)) : real(1);
  const real of_c = in.bc_norm ? lengths.inverse(warp_sum(c_squares)) : real(1);
  for (int64_t n = lane; n < in.N; n += kWarp) {
    in.b[token.row * in.N + n] = of_b * token.p(in.directions + n);
    in.c[token.row * in.N + n] = of_c * token.p(in.directions + in.N + n);
  }
}

__global__ void __launch_bounds__(kNumbersWarps* kWarp)
    fp_mamba_numbers_backward_kernel(const FpMambaNumbersBackward args) {
  const FpMambaNumbersForward& in = args.forward;
  if (token_of_warp() >= in.B * in.T) return;
  const MixToken token(in, token_of_warp());
  const MixGradient to(args, token);
  const int lane = lane_of();
  const real *db = args.db + token.row * in.N, *dc = args.dc + token.row * in.N;
  const Lengths lengths(in.eps);
  real sums[4]{};
  for (int64_t n = lane; n < in.N; n += kWarp) {
    const real b = lengths.unit * token.p(in.directions + n),
               c = lengths.unit * token.p(in.directions + in.N + n);
    sums[0] += b * b;
    sums[1] += c * c;
    sums[2] += b * db[n];
    sums[3] += c * dc[n];
  }
#pragma unroll 8
  for (int64_t j = lane; j < in.V; j += kWarp)
    to.give(j, args.dvectors[token.row * in.V + j] * Silu().slope(token.p(j)));
  for (int64_t j = lane; j < in.G; j += kWarp) {
    const real gate = sigmoid(token.p(in.V + j));
    to.give(in.V + j, args.dgates[token.row * in.G + j] * gate * (1 - gate));
  }
#pragma unroll
  for (real& sum : sums) sum = warp_sum(sum);
  const auto number = [&](int64_t j) { return token.p(j); };
  direction_gradient(in, lengths, number, in.directions, db, sums[0], sums[2], to, lane, kWarp);
  direction_gradient(in, lengths, number, in.directions + in.N, dc, sums[1], sums[3], to, lane,
                     kWarp);
  clear_rest(in, in.V + in.G, to, lane, kWarp);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const FpMambaNumbersForward&) { return true; }

void run(Cuda cuda, const FpMambaNumbersForward& args) {
  start(cuda, "fp_mamba_numbers_forward", fp_mamba_numbers_forward_kernel, tokens_by_warps(args),
        args);
}

void run(Cuda cuda, const FpMambaNumbersBackward& args) {
  clear_without_steps(cuda, args);
  start(cuda, "fp_mamba_numbers_backward", fp_mamba_numbers_backward_kernel,
        tokens_by_warps(args.forward), args);
}

}  // namespace fprnn
