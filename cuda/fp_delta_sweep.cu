// FP-DeltaNet's fixed point step by step (ops/fp_delta_sweep.h): for each step one product of
// matrices and one kernel in which a team takes a sequence, its vectors in registers
// (cuda/sweep_mixer.cuh). A thread has whole columns of the state, so nothing is added up between
// threads, and neighbours read neighbouring numbers. Bound by the read and write of the state.
#include <fprnn/cuda/fp_delta_token.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/outer.h>

namespace fprnn {

namespace cuda {
namespace {

// Step t of all sequences, and what passes from step to step.
struct Step {
  FpDeltaSweep in;
  int64_t t;
  const real* projected_y;  // (B, P) or null
  const real* from;         // (B, H, K, V) or null: the state; what the last step adds is missing
  real *keys, *gained;      // (B, H, K) and (B, D), whose outer product in each head that is
};

// Of shared memory, besides what team and mixer have: the keys of the step before, decays, betas, the token.
FPRNN_HOST_DEVICE inline int64_t step_reals(const FpDeltaSweep& in) {
  return whole_quads(in.H * in.K + 2 * in.H + DeltaPlaces::reals(in));
}

constexpr int kTogether = 8;  // numbers of a column on their way at a time

// S <- exp(g) (S + before gained^T) of the thread's columns, and what k and w read of S before its
// decay.
template <class Channels, int C>
__device__ __forceinline__ void pass_state(const Channels& channels, const Step& step, int64_t b,
                                           const DeltaPlaces& token, const real* before,
                                           const real* decay, const real (&gained)[C],
                                           real (&at_key)[C], real (&at_w)[C]) {
  const FpDeltaSweep& in = step.in;
  const int64_t states = b * in.D * in.K;
  each_column(channels, in, [&](int k, int, int head, int at) {
    const int K = static_cast<int>(in.K), V = static_cast<int>(in.V);
    const real *from = step.from, *const key = token.keys + head * K,
               *const w = token.queries + head * K, *const last = before + head * K;
    real* const to = in.state_out + states + at;
    const real keep = decay[head];
    real of_key = 0, of_w = 0;
    for (int first = 0; first < K; first += kTogether) {
      real h[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j)
        h[j] = from != nullptr && first + j < K ? from[states + at + (first + j) * V] : real(0);
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const int i = first + j;
        if (i >= K) break;
        h[j] += last[i] * gained[k];
        of_key += h[j] * key[i];
        of_w += h[j] * w[i];
        to[i * V] = keep * h[j];
      }
    }
    at_key[k] = of_key;
    at_w[k] = of_w;
  });
}

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_delta_step_kernel(const Step step) {
  constexpr int C = Mixer::C;
  using T = typename Mixer::T;
  extern __shared__ __align__(16) unsigned char bytes[];
  const FpDeltaSweep& in = step.in;
  const int64_t D = in.D, H = in.H, K = in.K, b = blockIdx.x, row = b * in.T + step.t,
                first = row * D, directions = in.P - 2 * H * K;
  const auto p = [&](int64_t j) {
    const real from_x = in.projected[row * in.P + j];
    return step.projected_y == nullptr ? from_x : from_x + step.projected_y[b * in.P + j];
  };
  real* const shared = reinterpret_cast<real*>(bytes);
  const T team(shared);
  const Mixer mixer(team, in.mixer, D, in.eps, p, shared + T::kSpace + step_reals(in), false);
  const auto channels = mixer.channels();
  real* const before = shared + T::kSpace;
  real *const decay = before + H * K, *const beta = decay + H;
  const DeltaPlaces token(in, beta + H);

  // Keys; w in the place of the queries.
  team.each(H * K, [&](auto i) { before[i] = step.t > 0 ? step.keys[b * H * K + i] : real(0); });
  team.each(H, [&](auto head) {
    decay[head] = decay_of(in, row, head);
    beta[head] = in.beta[row * H + head];
  });
  make_directions(
      team, in, [&](int64_t j) { return p(directions + j); }, token);
  team.each(H * K, [&](auto i) {
    const int head = static_cast<int>(i) / static_cast<int>(K);
    token.queries[i] -= beta[head] * token.met[head] * token.keys[i];
    step.keys[b * H * K + i] = token.keys[i];
  });
  team.sync();

  // The local equation.
  const real scale = query_scale(in);
  real gained[C], at_key[C]{}, at_w[C]{}, unmixed[C], gain[C]{}, offset[C]{}, keep[C]{}, write[C]{};
  fill_channels(channels, gained,
                [&](int64_t d) { return step.t > 0 ? step.gained[b * D + d] : real(0); });
  pass_state(channels, step, b, token, before, decay, gained, at_key, at_w);
  fill_channels(channels, unmixed, [&](int64_t d) { return in.x[first + d]; });
  mixer.apply(unmixed);
  each_column(channels, in, [&](int k, int d, int head, int) {
    const real gate = in.z == nullptr ? real(1) : silu(in.z[first + d]);
    keep[k] = decay[head];
    write[k] = beta[head];
    gain[k] = scale * write[k] * token.met[head];
    offset[k] = gate * (scale * keep[k] * at_w[k] + gain[k] * unmixed[k]);
    gain[k] *= gate;
  });
  real weight[C], none[C]{}, y[C], mixed[C];
  fill_channels(channels, weight, [&](int64_t d) { return in.norm_weight[d]; });
  const int32_t count =
      mixer.solve(local_parameters(in, true, false), offset, gain, weight, none, y, mixed);

  // f at y, and what the state gains.
  real f[C]{};
  channels.each([&](int k, int64_t) { f[k] = offset[k] + gain[k] * (y[k] - mixed[k]); });
  const real inverse = inverse_size(channels, in.eps, f);
  const real residual = distance_of(
                            channels, [&](int k) { return weight[k] * (inverse * f[k]); }, y)
                            .relative();
  channels.each([&](int k, int64_t d) {
    in.y[first + d] = y[k];
    step.gained[b * D + d] = write[k] * (unmixed[k] + y[k] - mixed[k] - keep[k] * at_key[k]);
  });
  if (team.rank == 0) {
    in.iterations[b] = max(in.iterations[b], count);
    in.residual[b] = step.t > 0 ? LargerSize()(in.residual[b], residual) : residual;
  }
}

template <class Start>
void with_kernel(const FpDeltaSweep& in, const Start& start_kernel) {
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t reals = Mixer::T::kSpace + step_reals(in) + Mixer::space(in.mixer, false);
    start_kernel(
        type,
        Grid{.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)});
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda cuda, const FpDeltaSweep& args) {
  bool fits = fits_a_team(args.mixer, args.D);
  if (fits)
    with_kernel(args, [&](auto, const Grid& grid) {
      fits = gpu(cuda).forms.fit(static_cast<int64_t>(grid.shared_bytes));
    });
  return fits;
}

void run(Cuda cuda, const FpDeltaSweep& args) {
  const Tensor projected_y(cuda.context, {args.B, args.P});
  const Tensor keys(cuda.context, {args.B, args.H, args.K}), gained(cuda.context, {args.B, args.D});
  Step step{.in = args,
            .t = 0,
            .projected_y = nullptr,
            .from = args.state,
            .keys = keys.data(),
            .gained = gained.data()};
  for (; step.t < args.T; ++step.t) {
    if (args.weight_y != nullptr && (step.t > 0 || args.previous != nullptr)) {
      multiply_previous(cuda, args, step.t, projected_y.data(), args.P);
      step.projected_y = projected_y.data();
    }
    with_kernel(args, [&](auto type, const Grid& grid) {
      start(cuda, "fp_delta_step", fp_delta_step_kernel<typename decltype(type)::type>, grid, step);
    });
    step.from = args.state_out;
  }
  if (args.T > 0 && args.state_wanted)
    run(cuda, AddOuter{.h = args.state_out,
                       .u = step.keys,
                       .v = step.gained,
                       .out = args.state_out,
                       .tokens = args.B * args.H,
                       .M = args.K,
                       .N = args.V});
}

}  // namespace fprnn
