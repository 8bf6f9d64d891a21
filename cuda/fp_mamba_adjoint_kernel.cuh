// The adjoint sweep step by step (ops/fp_mamba_sweep.h): for each, one kernel in which a team takes a
// sequence, and one product of matrices. The states of a chunk of steps are made first, from the
// one that a first pass left at its beginning; as many steps as fit kStatesAtOnce make a chunk. The
// kernel goes through the state and its cotangent twice, the second time out of the first-level
// cache.
#pragma once

#include <fprnn/core/vector.h>
#include <fprnn/cuda/fp_mamba_adjoint.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep.cuh>
#include <fprnn/cuda/sweep_adjoint.cuh>
#include <fprnn/ops/fp_mamba_sweep.h>

#include <vector>

namespace fprnn::cuda {

namespace {

constexpr int64_t kStatesAtOnce = int64_t{1} << 26;

// Steps [begin, end) of the recurrence for one state a thread; `all` gets each step's, `last` the last.
struct Recurrence {
  FpMambaAdjoint in;
  int64_t begin, end;
  const real* from;  // (B, D, N) or null
  real* all;         // (end - begin, B, D, N) or null
  real* last;        // (B, D, N) or null
};
inline void make_states(Cuda cuda, const Recurrence& args) {
  const int64_t count = args.in.B * args.in.D * args.in.N;
  for_each(cuda, "fp_mamba_states", count, [args, count] __device__(int64_t i) {
    const FpMambaAdjoint& in = args.in;
    const int64_t n = i % in.N, d = i / in.N % in.D, b = i / in.N / in.D;
    const real rate = kLog2e * in.a[d * in.N + n];
    real h = args.from == nullptr ? real(0) : args.from[i];
    for (int64_t t = args.begin; t < args.end; ++t) {
      const int64_t row = b * in.T + t;
      const real keep = in.keep == nullptr ? real(1) : in.keep[row];
      const real dt = in.dt[row * in.D + d];
      h = keep * exp2_decay(dt * rate) * h + dt * in.mixed[row * in.D + d] * in.b[row * in.N + n];
      if (args.all != nullptr) args.all[(t - args.begin) * count + i] = h;
    }
    if (args.last != nullptr) args.last[i] = h;
  });
}

// Step t, and what passes from one to the one before it in time.
struct Step {
  FpMambaAdjoint in;
  int64_t t;
  const real* states;  // (B, D, N): H_t
  real* dstate;        // (B, D, N): the cotangent of H_t from later steps; becomes that of H_{t-1}
  const real* dprevious;  // (B, D) of y_t as a previous one, or null behind the last step
  real* dp;               // (B, P)
  bool last;
};

// Per channel: H_t c and dH b.
template <class T>
__device__ __forceinline__ void read_channel(const Step& step, const Directions<T>& s, int64_t row,
                                             real& state_c, real& dstate_b) {
  state_c = dstate_b = 0;
  for (int64_t n = 0; n < step.in.N; n += Quad::kCount) {
    const Quad h = load_states(step.states + row + n);
    Quad dh{};
    if (!step.last) dh = load_states(step.dstate + row + n);
#pragma unroll
    for (int j = 0; j < Quad::kCount; ++j) {
      state_c += h.v[j] * s.c[n + j];
      dstate_b += dh.v[j] * s.b[n + j];
    }
  }
}

template <class Channels, class T, int C>
__device__ __forceinline__ void read_channels(const Channels& c, const Step& step,
                                              const Directions<T>& s, int64_t token,
                                              const real (&dt)[C], const real (&gate)[C],
                                              StepAtSolution<C>& at) {
  const FpMambaAdjoint& in = step.in;
  const int64_t first = (token * in.T + step.t) * in.D;
#pragma unroll
  for (int k = 0; k < C; ++k) at.value[k] = at.gain[k] = at.dmixed[k] = 0;
  c.each([&](int k, int64_t d) {
    real state_c, dstate_b;
    read_channel(step, s, (token * in.D + d) * in.N, state_c, dstate_b);
    at.value[k] = gate[k] * (state_c + in.skip[d] * in.mixed[first + d]);
    at.gain[k] = gate[k] * (dt[k] * s.product + in.skip[d]);
    at.dmixed[k] = dt[k] * dstate_b;
  });
}

// What dv, the cotangent of H_t c + skip . xt, makes of the states: their cotangent goes on
// to the step before; db and dc are the team's sums; taken[k] <- (dH + dv c^T) b.
template <class Channels, class T, int C>
__device__ __forceinline__ void through_states(const Channels& channels, const Step& step,
                                               const Directions<T>& s, int64_t token,
                                               const real (&dt)[C], const real (&dv)[C], real* db,
                                               real* dc, real (&taken)[C]) {
  const FpMambaAdjoint& in = step.in;
  const int64_t row = token * in.T + step.t;
  const real keep = in.keep == nullptr ? real(1) : in.keep[row];
#pragma unroll
  for (int k = 0; k < C; ++k) taken[k] = 0;
  for (int64_t n = 0; n < in.N; n += Quad::kCount) {
    real sums[2 * Quad::kCount]{};  // of db, then of dc
    channels.each([&](int k, int64_t d) {
      const int64_t at = (token * in.D + d) * in.N + n;
      const Quad h = load_states(step.states + at), a = load_states(in.a + d * in.N + n);
      const real input = dt[k] * in.mixed[row * in.D + d];
      Quad dh{};
      if (!step.last) dh = load_states(step.dstate + at);
#pragma unroll
      for (int j = 0; j < Quad::kCount; ++j) {
        dh.v[j] += dv[k] * s.c[n + j];
        taken[k] += dh.v[j] * s.b[n + j];
        sums[j] += dh.v[j] * input;
        sums[Quad::kCount + j] += h.v[j] * dv[k];
        dh.v[j] *= keep * exp2_decay(dt[k] * kLog2e * a.v[j]);
      }
      store_states(step.dstate + at, dh);
    });
    s.team.sums(sums);
    if (s.team.rank == 0) {
#pragma unroll
      for (int j = 0; j < Quad::kCount; ++j) {
        db[n + j] = sums[j];
        dc[n + j] = sums[Quad::kCount + j];
      }
    }
  }
  s.team.sync();
}

template <class Mixer, bool kCentred>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_mamba_adjoint_kernel(const Step step) {
  constexpr int C = Mixer::C;
  extern __shared__ __align__(16) unsigned char bytes[];
  using T = typename Mixer::T;
  const T team(reinterpret_cast<real*>(bytes));
  real* const shared = reinterpret_cast<real*>(bytes) + T::kSpace;
  const FpMambaAdjoint& in = step.in;
  const int64_t D = in.D, N = in.N, M = in.P - 2 * N;
  const int64_t token = blockIdx.x, row = token * in.T + step.t, first = row * D;
  const auto p = [&](int64_t j) { return in.p[row * in.P + j]; };
  const Mixer mixer(team, in.mixer, D, in.eps, p, shared + 4 * N, true);
  const auto channels = mixer.channels();
  const Directions<T> s(
      team, N, in.bc_norm, in.eps, [&](int64_t j) { return p(M + j); }, shared, shared + N);

  real dt[C], gate[C], v[C];
  StepAtSolution<C> at;
  fill_channels(channels, at.y, [&](int64_t d) { return in.y[first + d]; });
  fill_channels(channels, dt, [&](int64_t d) { return in.dt[first + d]; });
  fill_channels(channels, gate,
                [&](int64_t d) { return in.z == nullptr ? real(1) : silu(in.z[first + d]); });
  read_channels(channels, step, s, token, dt, gate, at);
  solve_back<kCentred>(mixer, in, token, step.t, step.dprevious, at, v);

  // Back to the step before: through the norm, the states, and Q, b and c to y_{t-1}.
  through_norm<kCentred>(channels, in, at.value, v);
#pragma unroll
  for (int k = 0; k < C; ++k) v[k] *= gate[k];
  real* const db = shared + 2 * N;
  real* const dc = db + N;
  real dxt[C]{};
  through_states(channels, step, s, token, dt, v, db, dc, dxt);
  if (in.weight_y == nullptr || step.t == 0) return;
  channels.each([&](int k, int64_t d) { dxt[k] = in.skip[d] * v[k] + dt[k] * dxt[k]; });
  real e[C];
  fill_channels(channels, e, [&](int64_t d) { return in.x[first + d] - in.y[first + d]; });
  const auto give = [&](int64_t j, real dp) { step.dp[token * in.P + j] = dp; };
  mixer.gradient(in.eps, p, e, dxt, give);
  s.gradient(N, in.bc_norm, in.eps, db, dc, [&](int64_t j, real dp) { give(M + j, dp); });
}

template <class Mixer>
Grid grid_of(const FpMambaAdjoint& in) {
  const int64_t reals = Mixer::T::kSpace + 4 * in.N + Mixer::space(in.mixer, true);
  return {.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)};
}
template <bool kCentred>
void start_step(Cuda cuda, const Step& step) {
  with_mixer(step.in.mixer, step.in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start(cuda, "fp_mamba_adjoint", fp_mamba_adjoint_kernel<Mixer, kCentred>,
          grid_of<Mixer>(step.in), step);
  });
}

// The states before each chunk.
inline std::vector<Tensor> chunk_starts(Cuda cuda, const FpMambaAdjoint& in, int64_t chunk) {
  std::vector<Tensor> starts(1);
  for (int64_t begin = 0; begin + chunk < in.T; begin += chunk) {
    const Tensor last(cuda.context, {in.B, in.D, in.N});
    make_states(cuda, {.in = in,
                       .begin = begin,
                       .end = begin + chunk,
                       .from = begin == 0 ? in.state : starts.back().data(),
                       .all = nullptr,
                       .last = last.data()});
    starts.push_back(last);
  }
  return starts;
}

}  // namespace

template <bool kCentred>
bool fits_adjoint(Cuda cuda, const FpMambaAdjoint& args) {
  if (!fits_a_team(args.mixer, args.D) || !states_fit(args)) return false;
  bool fits = false;
  with_mixer(args.mixer, args.D, [&](auto type) {
    fits = gpu(cuda).forms.fit(grid_of<typename decltype(type)::type>(args).shared_bytes);
  });
  return fits;
}

template <bool kCentred>
void run_adjoint(Cuda cuda, const FpMambaAdjoint& args) {
  const int64_t states = args.B * args.D * args.N;
  if (states * args.T == 0) return;
  const int64_t chunk = std::clamp<int64_t>(kStatesAtOnce / states, 1, args.T);
  const std::vector<Tensor> starts = chunk_starts(cuda, args, chunk);
  const Tensor all(cuda.context, {chunk, states}), dstate(cuda.context, {states});
  const Tensor dprevious(cuda.context, {args.B, args.D});
  const Tensor dp = zeros(cuda.context, {args.B, args.P});  // some of p may mean nothing
  for (int64_t i = static_cast<int64_t>(starts.size()) - 1; i >= 0; --i) {
    const int64_t begin = i * chunk, end = std::min(args.T, begin + chunk);
    make_states(cuda, {.in = args,
                       .begin = begin,
                       .end = end,
                       .from = i == 0 ? args.state : starts[i].data(),
                       .all = all.data(),
                       .last = nullptr});
    for (int64_t t = end - 1; t >= begin; --t) {
      const bool last = t == args.T - 1, sees_y = args.weight_y != nullptr;
      start_step<kCentred>(cuda, {.in = args,
                                  .t = t,
                                  .states = all.data() + (t - begin) * states,
                                  .dstate = dstate.data(),
                                  .dprevious = last || !sees_y ? nullptr : dprevious.data(),
                                  .dp = dp.data(),
                                  .last = last});
      if (t > 0 && sees_y) multiply_back(cuda, args, dp.data(), dprevious.data());
    }
  }
}

}  // namespace fprnn::cuda
