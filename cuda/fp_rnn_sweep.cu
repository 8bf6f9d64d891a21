// The FP-RNN's two sweeps step by step (ops/fp_rnn_sweep.h): for each step one product of matrices and one
// kernel in which a team takes a sequence, its vectors in registers (cuda/sweep_mixer.cuh).
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/fp_rnn_sweep.h>

namespace fprnn {

namespace cuda {
namespace {

// Step t of all sequences.
struct Step {
  FpRnnSweep in;
  LocalParameters parameters;
  int64_t t;
  const real* projected_y;  // (B, P) or null
  const real* before;       // (B, D) or null: f of the step before
};

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_rnn_step_kernel(const Step step) {
  constexpr int C = Mixer::C;
  extern __shared__ __align__(16) unsigned char bytes[];
  const FpRnnSweep& in = step.in;
  const int64_t D = in.D, b = blockIdx.x, row = b * in.T + step.t, first = row * D;
  const auto p = [&](int64_t j) {
    const real from_x = in.projected[row * in.P + j];
    return step.projected_y == nullptr ? from_x : from_x + step.projected_y[b * in.P + j];
  };
  real* const shared = reinterpret_cast<real*>(bytes);
  const typename Mixer::T team(shared);
  const Mixer mixer(team, in.mixer, D, in.eps, p, shared + Mixer::T::kSpace, false);
  const auto channels = mixer.channels();

  // The local equation: offset + (1 - lambda) . (I - Q) y.
  real kept[C], gain[C], mixed[C], offset[C], y[C], mixed_y[C], none[C];
  fill_channels(channels, gain, [&](int64_t d) { return 1 - in.lambda[first + d]; });
  fill_channels(channels, kept, [&](int64_t d) {
    return step.before == nullptr ? real(0) : in.lambda[first + d] * step.before[b * D + d];
  });
  fill_channels(channels, mixed, [&](int64_t d) { return in.bx[first + d]; });
  mixer.apply(mixed);
#pragma unroll
  for (int k = 0; k < C; ++k) {
    offset[k] = kept[k] + gain[k] * mixed[k];
    none[k] = 0;
  }
  const int32_t count = mixer.solve(step.parameters, offset, gain, none, none, y, mixed_y);

  // f at y, which the next step begins with.
  real f[C]{};
  channels.each([&](int k, int64_t d) {
    f[k] = kept[k] + gain[k] * (mixed[k] - mixed_y[k] + y[k]);
    in.y[first + d] = y[k];
    in.state_out[b * D + d] = f[k];
  });
  if (team.rank == 0) in.iterations[b] = max(in.iterations[b], count);
  const real residual = distance_of(
                            channels, [&](int k) { return f[k]; }, y)
                            .relative();
  if (team.rank == 0)
    in.residual[b] = step.t > 0 ? LargerSize()(in.residual[b], residual) : residual;
}

// Backwards: step t, and what comes from the step after.
struct AdjointStep {
  FpRnnAdjoint in;
  LocalParameters parameters;
  int64_t t;
  const real* dprevious;  // (B, D) of y_t as a previous one, or null
  real* dstate;           // (B, D): the cotangent of f_t; becomes that of f_{t-1}
  real* dp;               // (B, P)
  bool last;
};

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_rnn_adjoint_kernel(const AdjointStep step) {
  constexpr int C = Mixer::C;
  extern __shared__ __align__(16) unsigned char bytes[];
  const FpRnnAdjoint& in = step.in;
  const int64_t D = in.D, b = blockIdx.x, row = b * in.T + step.t, first = row * D;
  const auto p = [&](int64_t j) { return in.p[row * in.P + j]; };
  real* const shared = reinterpret_cast<real*>(bytes);
  const typename Mixer::T team(shared);
  const Mixer mixer(team, in.mixer, D, in.eps, p, shared + Mixer::T::kSpace, true);
  const auto channels = mixer.channels();

  // w: g_t, y_t as the next step's previous one, and y_t in f_t, (I - Q)^T of its cotangent.
  real gain[C], dstate[C], turned[C], w[C], y[C], none[C], v[C];
  fill_channels(channels, gain, [&](int64_t d) { return 1 - in.lambda[first + d]; });
  fill_channels(channels, y, [&](int64_t d) { return in.y[first + d]; });
  fill_channels(channels, dstate,
                [&](int64_t d) { return step.last ? real(0) : step.dstate[b * D + d]; });
#pragma unroll
  for (int k = 0; k < C; ++k) {
    w[k] = turned[k] = gain[k] * dstate[k];
    none[k] = 0;
  }
  mixer.apply_transposed(turned);
  channels.each([&](int k, int64_t d) {
    w[k] += in.v[first + d] - turned[k];
    if (step.dprevious != nullptr) w[k] += step.dprevious[b * D + d];
  });
  const int32_t count = mixer.adjoint(step.parameters, none, gain, none, none, y, w, v);
  if (team.rank == 0 && count > in.iterations[b]) in.iterations[b] = count;

  // To the step before: f_{t-1} through lambda, y_{t-1} through what Q is made of.
  real e[C];
  fill_channels(channels, e, [&](int64_t d) { return in.bx[first + d]; });
#pragma unroll
  for (int k = 0; k < C; ++k) e[k] -= y[k];
  channels.each([&](int k, int64_t d) {
    in.v[first + d] = v[k];
    v[k] += dstate[k];
    step.dstate[b * D + d] = in.lambda[first + d] * v[k];
    v[k] *= gain[k];
  });
  if (in.weight_y == nullptr || step.t == 0) return;
  mixer.gradient(in.eps, p, e, v, [&](int64_t j, real dp) { step.dp[b * in.P + j] = dp; });
}

template <class Sweep, class Start>
void with_kernel(const Sweep& in, bool with_gradient, const Start& start_kernel) {
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const size_t bytes = (Mixer::T::kSpace + Mixer::space(in.mixer, with_gradient)) * sizeof(real);
    start_kernel(type, Grid{.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = bytes});
  });
}
template <class Sweep>
bool fits_a_block(Cuda cuda, const Sweep& in, bool with_gradient) {
  bool fits = fits_a_team(in.mixer, in.D);
  if (fits)
    with_kernel(in, with_gradient, [&](auto, const Grid& grid) {
      fits = gpu(cuda).forms.fit(static_cast<int64_t>(grid.shared_bytes));
    });
  return fits;
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda cuda, const FpRnnSweep& args) { return fits_a_block(cuda, args, false); }
bool supports(Cuda cuda, const FpRnnAdjoint& args) { return fits_a_block(cuda, args, true); }

void run(Cuda cuda, const FpRnnSweep& args) {
  const Tensor projected_y(cuda.context, {args.B, args.P});
  Step step{.in = args,
            .parameters = local_parameters(args, false, false),
            .t = 0,
            .projected_y = nullptr,
            .before = args.state};
  for (; step.t < args.T; ++step.t) {
    if (args.weight_y != nullptr && (step.t > 0 || args.previous != nullptr)) {
      multiply_previous(cuda, args, step.t, projected_y.data(), args.P);
      step.projected_y = projected_y.data();
    }
    with_kernel(args, false, [&](auto type, const Grid& grid) {
      start(cuda, "fp_rnn_step", fp_rnn_step_kernel<typename decltype(type)::type>, grid, step);
    });
    step.before = args.state_out;
  }
}

void run(Cuda cuda, const FpRnnAdjoint& args) {
  const Tensor dstate(cuda.context, {args.B, args.D}), dprevious(cuda.context, {args.B, args.D});
  const Tensor dp(cuda.context, {args.B, args.P});
  const bool sees_y = args.weight_y != nullptr;
  for (int64_t t = args.T - 1; t >= 0; --t) {
    const bool last = t == args.T - 1;
    const AdjointStep step{.in = args,
                           .parameters = local_parameters(args, false, false),
                           .t = t,
                           .dprevious = last || !sees_y ? nullptr : dprevious.data(),
                           .dstate = dstate.data(),
                           .dp = dp.data(),
                           .last = last};
    with_kernel(args, true, [&](auto type, const Grid& grid) {
      start(cuda, "fp_rnn_adjoint", fp_rnn_adjoint_kernel<typename decltype(type)::type>, grid,
            step);
    });
    if (t > 0 && sees_y) multiply_back(cuda, args, dp.data(), dprevious.data());
  }
}

}  // namespace fprnn
