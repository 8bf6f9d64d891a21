// The local equation of a Kronecker mixer (ops/kronecker_solve.md). A team takes a token of up to 1024
// channels and goes on until that has converged, its vectors in registers; for sizes that it
// divides evenly the factors are there too, or in shared memory (cuda/kronecker.cuh). For more
// channels the vectors are in memory. Krylov's basis begins in registers, for 1,024 channels goes
// on in shared memory, and then in memory of the thread, which the driver keeps for each that the
// GPU can hold.
// Cost: a vector of the space is a chain of the two products and the sums of Gram-Schmidt.
#include <fprnn/core/vector.h>
#include <fprnn/cuda/kronecker_equation.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn {

namespace cuda {
namespace {

KroneckerParameters parameters_of(const KroneckerSolve& args) {
  return {.scale = args.scale,
          .normalised = args.weight != nullptr,
          .centred = args.bias != nullptr,
          .eps = args.eps,
          .tolerance = args.tolerance,
          .max_iterations = static_cast<int32_t>(args.max_iterations)};
}

// With the vectors of a token in C registers a thread.
template <int C, class Channels, class Product>
__device__ __forceinline__ void solve_in_registers(const KroneckerSolve& args,
                                                   const KroneckerParameters& parameters,
                                                   int64_t token, const Channels& channels,
                                                   const Product& product, real* krylov) {
  const int64_t first = token * channels.D;
  real offset[C]{}, gain[C]{}, weight[C]{}, bias[C]{}, y[C], unmixed_y[C];
  channels.each([&](int k, int d) {
    offset[k] = args.offset[first + d];
    gain[k] = args.gain[first + d];
    if (parameters.normalised) {
      weight[k] = args.weight[d];
      if (parameters.centred) bias[k] = args.bias[d];
    }
  });
  const int32_t count = kronecker_iterate(parameters, channels, product, offset, gain, weight, bias,
                                          y, unmixed_y, krylov);
  channels.each([&](int k, int d) { args.y[first + d] = y[k]; });
  if (channels.team.rank == 0) args.iterations[token] = count;
}

template <int M1, int M2>
__global__ void __launch_bounds__(Team<kTeamOf<M1, M2>>::kSize)
    kronecker_solve_kernel(KroneckerSolve args, KroneckerParameters parameters,
                           SharedSpace workspace) {
  constexpr int W = kTeamOf<M1, M2>;
  using Product = ProductOf<M1, M2>;
  for_tokens<W>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    real *const right = space + M1 * M1, *const work = right + M2 * M2;
    team.copy(Constant<M1 * M1>(), args.left + token * (M1 * M1), space);
    team.copy(Constant<M2 * M2>(), args.right + token * (M2 * M2), right);
    team.sync();
    const auto channels = Product::channels(team);
    solve_in_registers<Product::C>(args, parameters, token, channels,
                                   Product(team, space, right, work), work + Product::kSpace);
  });
}

template <class T, class Channels>
__device__ __forceinline__ AnyProduct<T, Channels> product_of(const KroneckerSolve& args,
                                                              int64_t token,
                                                              const Channels& channels,
                                                              real* work) {
  using Index = typename T::Index;
  return {channels, args.left + token * args.m1 * args.m1, args.right + token * args.m2 * args.m2,
          work,     static_cast<Index>(args.m1),           static_cast<Index>(args.m2)};
}

template <int W, int C>
__global__ void __launch_bounds__(Team<W>::kSize)
    kronecker_solve_any_kernel(KroneckerSolve args, KroneckerParameters parameters,
                               Workspace workspace) {
  const int D = static_cast<int>(args.m1 * args.m2);
  for_tokens<W>(args.tokens, workspace, [&](const auto& team, int64_t token, real* work) {
    const Channels<Team<W>, Constant<C>, int> channels{team, {}, D};
    solve_in_registers<C>(args, parameters, token, channels,
                          product_of<Team<W>>(args, token, channels, work),
                          work + (2 * D + 3) / 4 * 4);
  });
}

constexpr int kLongWarps = 8;
__global__ void __launch_bounds__(Team<kLongWarps>::kSize)
    kronecker_solve_long_kernel(KroneckerSolve args, KroneckerParameters parameters,
                                Workspace workspace) {
  const int64_t D = args.m1 * args.m2;
  for_tokens<kLongWarps>(args.tokens, workspace, [&](const auto& team, int64_t token, real* space) {
    using T = Team<kLongWarps>;
    const Channels<T, int64_t, int64_t> channels{team, (D + T::kSize - 1) / T::kSize, D};
    const auto in = [&](const real* x) { return Spread<const real, T::kSize>{x + team.rank}; };
    real* const krylov = space;
    space += Krylov<T, kKrylovMostLong>::kSpace;
    Spread<real, T::kSize> y{args.y + token * D + team.rank}, f{space + team.rank},
        v{space + D + team.rank};
    FarBasis<T> basis{space + 4 * D + team.rank, D};
    const int32_t count =
        kronecker_iterate(parameters, channels, product_of<T>(args, token, channels, space + 2 * D),
                          in(args.offset + token * D), in(args.gain + token * D), in(args.weight),
                          in(args.bias), basis, krylov, y, f, v);
    if (team.rank == 0) args.iterations[token] = count;
  });
}

template <int W, int C>
void start_any(Cuda cuda, const KroneckerSolve& args, const KroneckerParameters& parameters) {
  const int64_t reals = (2 * args.m1 * args.m2 + 3) / 4 * 4 + kEquationSpace<Team<W>, C>;
  start_teams<W>(cuda, "kronecker_solve", kronecker_solve_any_kernel<W, C>, args.tokens, reals, 1,
                 args, parameters);
}
void start_any(Cuda cuda, const KroneckerSolve& args, const KroneckerParameters& parameters) {
  const int64_t D = args.m1 * args.m2;
  if (D <= 64) return start_any<1, 2>(cuda, args, parameters);
  if (D <= 128) return start_any<4, 1>(cuda, args, parameters);
  if (D <= 512) return start_any<4, 4>(cuda, args, parameters);
  if (D <= 1024) return start_any<8, 4>(cuda, args, parameters);
  KroneckerSolve with_bias = args;
  const Tensor none =
      parameters.normalised && !parameters.centred ? zeros(cuda.context, Shape{D}) : Tensor();
  if (none.defined()) with_bias.bias = none.data();
  start_teams<kLongWarps>(
      cuda, "kronecker_solve", kronecker_solve_long_kernel, args.tokens,
      Krylov<Team<kLongWarps>, kKrylovMostLong>::kSpace + (4 + kKrylovMostLong) * D, 1, with_bias,
      parameters);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const KroneckerSolve& args) {
  const KroneckerParameters parameters = parameters_of(args);
  const bool done = with_constants(args.m1, args.m2, [&](auto m1, auto m2) {
    constexpr int M1 = decltype(m1)::value, M2 = decltype(m2)::value;
    constexpr int W = kTeamOf<M1, M2>;
    using Product = ProductOf<M1, M2>;
    constexpr int64_t kReals =
        M1 * M1 + M2 * M2 + Product::kSpace + kEquationSpace<Team<W>, Product::C>;
    // Where a product's numbers must be.
    static_assert((kReals + Team<W>::kSpace) * sizeof(real) <= kLeastBlockBytes);
    start_teams<W, SharedSpace>(cuda, "kronecker_solve", kronecker_solve_kernel<M1, M2>,
                                args.tokens, kReals, 1, args, parameters);
  });
  if (!done) start_any(cuda, args, parameters);
}

}  // namespace fprnn
