// The local equation of one token a team (cuda/local_solve.cuh). Ranks up to 4 and up to 1024 channels
// stay in registers, and every number is read once. Beyond them a team, of one warp, has working
// space in memory, and as many warps as fill the GPU go through the tokens: made for any size, not
// for speed.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/fp_mamba_solve.h>

namespace fprnn {

namespace cuda {
namespace {

LocalParameters parameters_of(const LocalMap& map, real tolerance = 0, int64_t max_iterations = 1) {
  return {.D = map.D,
          .scale = map.scale,
          .in_order = map.in_order,
          .normalised = map.weight != nullptr,
          .centred = map.bias != nullptr,
          .eps = map.eps,
          .tolerance = tolerance,
          .max_iterations = max_iterations};
}

// One token's vectors in registers.
template <int R, int C>
struct Loaded {
  real u[R][C], alpha[R], offset[C], gain[C], weight[C], bias[C];

  template <class Channels>
  __device__ Loaded(const Channels& channels, const LocalMap& map, int64_t token) {
    const int64_t D = map.D, first = token * D;
#pragma unroll
    for (int i = 0; i < R; ++i) {
      fill_channels(channels, u[i], [&](int64_t d) { return map.u[(token * R + i) * D + d]; });
      alpha[i] = map.alpha[token * R + i];
    }
    fill_channels(channels, offset, [&](int64_t d) { return map.offset[first + d]; });
    fill_channels(channels, gain, [&](int64_t d) { return map.gain[first + d]; });
    fill_channels(channels, weight,
                  [&](int64_t d) { return map.weight ? map.weight[d] : real(0); });
    fill_channels(channels, bias, [&](int64_t d) { return map.bias ? map.bias[d] : real(0); });
  }
  __device__ LocalVectors<real[R][C], real[R], real[C]> vectors() const {
    return {u, alpha, offset, gain, weight, bias};
  }
};

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize)
    local_solve_kernel(LocalSolve args, LocalParameters parameters) {
  constexpr int R = Mixer::R, C = Mixer::C;
  __shared__ alignas(16) real shared[std::max(1, Mixer::T::kSpace)];
  const typename Mixer::T team(shared);
  const Channels<typename Mixer::T, Constant<C>, int64_t> channels{team, {}, args.map.D};
  const int64_t token = blockIdx.x, first = token * args.map.D;
  const Loaded<R, C> x(channels, args.map, token);
  LocalSpace<R, C> space;
  real y[C];
  const int32_t count = judged_solve(team, parameters, x.vectors(), space, y);
  channels.each([&](int k, int64_t d) { args.y[first + d] = y[k]; });
  if (threadIdx.x == 0) args.iterations[token] = count;
}

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize)
    local_adjoint_kernel(LocalAdjoint args, LocalParameters parameters) {
  constexpr int R = Mixer::R, C = Mixer::C;
  __shared__ alignas(16) real shared[std::max(1, Mixer::T::kSpace)];
  const typename Mixer::T team(shared);
  const Channels<typename Mixer::T, Constant<C>, int64_t> channels{team, {}, args.map.D};
  const int64_t token = blockIdx.x, first = token * args.map.D;
  const Loaded<R, C> x(channels, args.map, token);
  LocalSpace<R, C> space;
  real y[C], w[C], v[C];
  fill_channels(channels, y, [&](int64_t d) { return args.y[first + d]; });
  fill_channels(channels, w, [&](int64_t d) { return args.w[first + d]; });
  local_adjoint(team, parameters, x.vectors(), space, y, w, v);
  channels.each([&](int k, int64_t d) { args.v[first + d] = v[k]; });
}

// Any size: what Loaded and LocalSpace have, in memory, from one block of doubles and one of reals.
struct Anywhere {
  int64_t r, c;
  FPRNN_HOST_DEVICE int64_t doubles() const { return (3 * r * r + 8 * r) * kWarp; }
  FPRNN_HOST_DEVICE int64_t reals() const { return (2 * r * c + r + 8 * c) * kWarp; }
};

struct Placed {
  LocalSpace<0, 0> space;
  StridedRows<real> u;
  Strided<real> alpha, offset, gain, weight, bias, y, w, v;

  __device__ Placed(const Anywhere& size, double* doubles, real* reals) : space{} {
    const int lane = threadIdx.x % kWarp;
    const auto take = [lane](auto*& from, int64_t count) {
      auto* const at = from + lane;
      from += count * kWarp;
      return at;
    };
    space.r = size.r;
    space.c = size.c;
    for (StridedRows<double>* matrix : {&space.m, &space.square, &space.p1})
      *matrix = {take(doubles, size.r * size.r), size.r};
    for (Strided<double>* column : {&space.cross, &space.p0, &space.e, &space.beta, &space.f,
                                    &space.from, &space.change, &space.before})
      *column = {take(doubles, size.r)};
    space.w = {take(reals, size.r * size.c), size.c};
    u = {take(reals, size.r * size.c), size.c};
    alpha = {take(reals, size.r)};
    for (Strided<real>* row : {&space.a, &offset, &gain, &weight, &bias, &y, &w, &v})
      *row = {take(reals, size.c)};
  }
  __device__ LocalVectors<StridedRows<real>, Strided<real>, Strided<real>> vectors() const {
    return {u, alpha, offset, gain, weight, bias};
  }

  __device__ void load(const Strided<real>& to, const real* from, int64_t D) const {
    for (int64_t k = 0; k < space.c; ++k) {
      const int64_t d = static_cast<int>(threadIdx.x) + k * kWarp;
      to[k] = from != nullptr && d < D ? from[d] : real(0);
    }
  }
  __device__ void store(real* to, const Strided<real>& from, int64_t D) const {
    for (int64_t d = static_cast<int>(threadIdx.x); d < D; d += kWarp) to[d] = from[d / kWarp];
  }
  __device__ void load(const LocalMap& map, int64_t token) const {
    const int64_t D = map.D;
    for (int64_t i = 0; i < map.r; ++i) {
      load(u[i], map.u + (token * map.r + i) * D, D);
      alpha[i] = map.alpha[token * map.r + i];
    }
    load(offset, map.offset + token * D, D);
    load(gain, map.gain + token * D, D);
    load(weight, map.weight, D);
    load(bias, map.bias, D);
  }
};

__global__ void any_local_solve_kernel(LocalSolve args, LocalParameters parameters, Anywhere size,
                                       double* doubles, real* reals) {
  const Team<1> team(nullptr);
  const int64_t D = args.map.D;
  Placed at(size, doubles + blockIdx.x * size.doubles(), reals + blockIdx.x * size.reals());
  for (int64_t token = blockIdx.x; token < args.map.tokens; token += gridDim.x) {
    at.load(args.map, token);
    const int32_t count = judged_solve(team, parameters, at.vectors(), at.space, at.y);
    at.store(args.y + token * D, at.y, D);
    if (threadIdx.x == 0) args.iterations[token] = count;
  }
}

__global__ void any_local_adjoint_kernel(LocalAdjoint args, LocalParameters parameters,
                                         Anywhere size, double* doubles, real* reals) {
  const Team<1> team(nullptr);
  const int64_t D = args.map.D;
  Placed at(size, doubles + blockIdx.x * size.doubles(), reals + blockIdx.x * size.reals());
  for (int64_t token = blockIdx.x; token < args.map.tokens; token += gridDim.x) {
    at.load(args.map, token);
    at.load(at.y, args.y + token * D, D);
    at.load(at.w, args.w + token * D, D);
    local_adjoint(team, parameters, at.vectors(), at.space, at.y, at.w, at.v);
    at.store(args.v + token * D, at.v, D);
  }
}

template <class Args, class Kernel>
void start_anywhere(Cuda cuda, std::string_view name, Kernel kernel, const Args& args,
                    const LocalParameters& parameters) {
  constexpr int64_t kWarps = 132 * 8;
  const Anywhere size{args.map.r, ceil_div(args.map.D, kWarp)};
  const int64_t blocks = std::min(args.map.tokens, kWarps);
  const Storage doubles(cuda.context, blocks * size.doubles() * int64_t{sizeof(double)});
  const Storage reals(cuda.context, blocks * size.reals() * int64_t{sizeof(real)});
  start(cuda, name, kernel, {.blocks = blocks, .threads = kWarp}, args, parameters, size,
        static_cast<double*>(doubles.data()), static_cast<real*>(reals.data()));
}

bool in_registers(const LocalMap& map) { return map.r <= kMostRank && map.D <= kMostChannels; }

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const LocalSolve& args) {
  const LocalParameters parameters = parameters_of(args.map, args.tolerance, args.max_iterations);
  if (!in_registers(args.map))
    return start_anywhere(cuda, "local_solve", any_local_solve_kernel, args, parameters);
  with_low_rank(args.map.r, args.map.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start(cuda, "local_solve", local_solve_kernel<Mixer>,
          {.blocks = args.map.tokens, .threads = Mixer::T::kSize}, args, parameters);
  });
}

void run(Cuda cuda, const LocalAdjoint& args) {
  const LocalParameters parameters = parameters_of(args.map);
  if (!in_registers(args.map))
    return start_anywhere(cuda, "local_adjoint", any_local_adjoint_kernel, args, parameters);
  with_low_rank(args.map.r, args.map.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start(cuda, "local_adjoint", local_adjoint_kernel<Mixer>,
          {.blocks = args.map.tokens, .threads = Mixer::T::kSize}, args, parameters);
  });
}

}  // namespace fprnn
