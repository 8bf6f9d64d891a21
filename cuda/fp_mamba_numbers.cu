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

__global__ void __launch_bounds__(kNumbersWarps* kWarp)
    fp_mamba_numbers_forward_kernel(const FpMambaNumbersForward in) {
  if (row_of_warp<kNumbersWarps>() >= in.B * in.T) return;
  const MixToken token(in, row_of_warp<kNumbersWarps>());
  const auto p = [&](int64_t j) { return token.p(j); };
  const int lane = lane_of();
  const Lengths lengths(in.eps);
  real squares[2]{};
  for (int64_t n = lane; n < in.N; n += kWarp)
    add_direction(in, lengths, p, n, nullptr, nullptr, squares);
#pragma unroll 8
  for (int64_t j = lane; j < in.V; j += kWarp)
    in.vectors[token.row * in.V + j] = Silu().value(token.p(j));
  for (int64_t j = lane; j < in.G; j += kWarp)
    in.gates[token.row * in.G + j] = sigmoid(token.p(in.V + j));
  if (in.bc_norm)
    for (real& sum : squares) sum = warp_sum(sum);
  write_directions(in, lengths, p, token.row, squares, lane, kWarp);
}

__global__ void __launch_bounds__(kNumbersWarps* kWarp)
    fp_mamba_numbers_backward_kernel(const FpMambaNumbersBackward args) {
  const FpMambaNumbersForward& in = args.forward;
  if (row_of_warp<kNumbersWarps>() >= in.B * in.T) return;
  const MixToken token(in, row_of_warp<kNumbersWarps>());
  const auto p = [&](int64_t j) { return token.p(j); };
  const MixGradient to(args, token);
  const int lane = lane_of();
  const real *db = args.db + token.row * in.N, *dc = args.dc + token.row * in.N;
  const Lengths lengths(in.eps);
  real sums[4]{};
  for (int64_t n = lane; n < in.N; n += kWarp) add_direction(in, lengths, p, n, db, dc, sums);
#pragma unroll 8
  for (int64_t j = lane; j < in.V; j += kWarp)
    to.give(j, args.dvectors[token.row * in.V + j] * Silu().slope(token.p(j)));
  for (int64_t j = lane; j < in.G; j += kWarp) {
    const real gate = sigmoid(token.p(in.V + j));
    to.give(in.V + j, args.dgates[token.row * in.G + j] * gate * (1 - gate));
  }
#pragma unroll
  for (real& sum : sums) sum = warp_sum(sum);
  direction_gradients(in, lengths, p, db, dc, sums, to, lane, kWarp);
  clear_rest(in, in.V + in.G, to, lane, kWarp);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const FpMambaNumbersForward&) { return true; }

void run(Cuda cuda, const FpMambaNumbersForward& args) {
  start(cuda, "fp_mamba_numbers_forward", fp_mamba_numbers_forward_kernel,
        rows_by_warps<kNumbersWarps>(args.B * args.T), args);
}

void run(Cuda cuda, const FpMambaNumbersBackward& args) {
  clear_without_steps(cuda, args);
  start(cuda, "fp_mamba_numbers_backward", fp_mamba_numbers_backward_kernel,
        rows_by_warps<kNumbersWarps>(args.forward.B * args.forward.T), args);
}

}  // namespace fprnn
