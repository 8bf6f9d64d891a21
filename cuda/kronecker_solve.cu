// The local equation of a Kronecker mixer (ops/kronecker_solve.md). A warp takes a token of up to
// 512 channels and goes on until that has converged, its vectors in registers; for sizes that lanes divide
// evenly the factors are there too, or in shared memory (cuda/kronecker.cuh). Krylov's basis, which few
// tokens need much of, is in memory of the thread: up to 5 KB, which the driver keeps for each thread that
// the GPU can hold. A block takes a token of more channels, whose vectors are in memory. Cost: a plain step is
// a chain of the two products, a round of LayerNorm's sums and a maximum, some 500 cycles for D = 128.
#include <fprnn/cuda/kronecker_equation.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn {

namespace cuda {
namespace {

// At least so many warps of a multiprocessor have room for their registers.
constexpr int kSolveWarps = 8;

KroneckerParameters parameters_of(const KroneckerSolve& args) {
  return {.scale = args.scale,
          .normalised = args.weight != nullptr,
          .eps = args.eps,
          .tolerance = args.tolerance,
          .max_iterations = static_cast<int32_t>(args.max_iterations)};
}

// With the vectors of a token in C registers a lane.
template <int C, class Channels, class Product>
__device__ __forceinline__ void solve_in_registers(const KroneckerSolve& args,
                                                   const KroneckerParameters& parameters,
                                                   int64_t token, const Channels& channels,
                                                   const Product& product) {
  const int64_t first = token * channels.D;
  real offset[C]{}, gain[C]{}, weight[C]{}, bias[C]{}, y[C], f[C], v[C];
  channels.each([&](int k, int d) {
    offset[k] = args.offset[first + d];
    gain[k] = args.gain[first + d];
    if (parameters.normalised) {
      weight[k] = args.weight[d];
      bias[k] = args.bias[d];
    }
  });
  const int32_t count =
      kronecker_iterate(parameters, channels, product, offset, gain, weight, bias, y, f, v);
  channels.each([&](int k, int d) { args.y[first + d] = y[k]; });
  if (channels.team.rank == 0) args.iterations[token] = count;
}

template <int M1, int M2>
__global__ void __launch_bounds__(kWarp, kSolveWarps)
    kronecker_solve_kernel(KroneckerSolve args, KroneckerParameters parameters,
                           Workspace workspace) {
  using Product = RegisterProduct<M1, M2>;
  for_tokens<false>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    real* const right = space + M1 * M1;
    team.copy(Constant<M1 * M1>(), args.left + token * (M1 * M1), space);
    team.copy(Constant<M2 * M2>(), args.right + token * (M2 * M2), right);
    team.sync();
    solve_in_registers<Product::C>(args, parameters, token, Product::channels(),
                                   Product(space, right, right + M2 * M2));
  });
}

template <bool kBlock>
__device__ __forceinline__ AnyProduct<Team<kBlock>> product_of(const KroneckerSolve& args,
                                                               int64_t token, real* work) {
  using Index = typename Team<kBlock>::Index;
  return {args.left + token * args.m1 * args.m1, args.right + token * args.m2 * args.m2, work,
          static_cast<Index>(args.m1), static_cast<Index>(args.m2)};
}

template <int C>
__global__ void __launch_bounds__(kWarp, kSolveWarps)
    kronecker_solve_any_kernel(KroneckerSolve args, KroneckerParameters parameters,
                               Workspace workspace) {
  for_tokens<false>(args.tokens, workspace, [&](const auto& team, int64_t token, real* work) {
    const WarpChannels<C, int> channels{team, {}, static_cast<int>(args.m1 * args.m2)};
    solve_in_registers<C>(args, parameters, token, channels, product_of<false>(args, token, work));
  });
}

__global__ void __launch_bounds__(Team<true>::kSize)
    kronecker_solve_long_kernel(KroneckerSolve args, KroneckerParameters parameters,
                                Workspace workspace) {
  const int64_t D = args.m1 * args.m2;
  for_tokens<true>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    constexpr int kSize = Team<true>::kSize;
    const Channels<Team<true>, int64_t, int64_t> channels{team, (D + kSize - 1) / kSize, D};
    const auto in = [&](const real* x) { return Spread<const real>{x + team.rank}; };
    Spread<real> y{args.y + token * D + team.rank}, f{space + team.rank}, v{space + D + team.rank};
    KrylovInMemory krylov{space + 4 * D + team.rank, D};
    const int32_t count =
        kronecker_iterate(parameters, channels, product_of<true>(args, token, space + 2 * D),
                          in(args.offset + token * D), in(args.gain + token * D), in(args.weight),
                          in(args.bias), krylov, y, f, v);
    if (team.rank == 0) args.iterations[token] = count;
  });
}

void start_any(Cuda cuda, const KroneckerSolve& args, const KroneckerParameters& parameters) {
  const int64_t D = args.m1 * args.m2;
  const auto start_warps = [&](auto kernel) {
    start_teams<false>(cuda, "kronecker_solve", kernel, args.tokens, 2 * D, 1, args, parameters);
  };
  if (D <= 2 * kWarp) return start_warps(kronecker_solve_any_kernel<2>);
  if (D <= 4 * kWarp) return start_warps(kronecker_solve_any_kernel<4>);
  if (D <= 8 * kWarp) return start_warps(kronecker_solve_any_kernel<8>);
  if (D <= 16 * kWarp) return start_warps(kronecker_solve_any_kernel<16>);
  start_teams<true>(cuda, "kronecker_solve", kronecker_solve_long_kernel, args.tokens,
                    (4 + KrylovInMemory::kMost) * D, 1, args, parameters);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const KroneckerSolve& args) {
  const KroneckerParameters parameters = parameters_of(args);
  const bool done = with_constants(args.m1, args.m2, [&](auto m1, auto m2) {
    constexpr int M1 = decltype(m1)::value, M2 = decltype(m2)::value;
    start_teams<false>(cuda, "kronecker_solve", kronecker_solve_kernel<M1, M2>, args.tokens,
                       RegisterProduct<M1, M2>::kSpace, 1, args, parameters);
  });
  if (!done) start_any(cuda, args, parameters);
}

}  // namespace fprnn
