// The sequential solver in one kernel. A block takes a few sequences through all of time: their states stay in
// shared memory, y in registers, and nothing is waited for but the slowest of these few. A step is
//
//   1. p = y_{t-1} W^T by all warps together, each row of W for all sequences of the block, whose
//      y is in shared memory;
//   2. the step of each sequence by its own team (cuda/fp_mamba_step.cuh).
//
// Cost: a block reads W once a step. In fp32 it comes from the second-level cache, P D reals for every
// B / kSequences sequences, and that cache's speed is most of what 1 takes. In tf32 W has 16 bits a
// number (cuda/half_rows.cuh), and half as much comes. To keep that in shared memory, where it
// fits, is no faster: there is less of the first-level cache then for what 2 reads. The chain of a
// step is 1 and the iterations of its slowest sequence.
#pragma once

#include <fprnn/cuda/fp_mamba_persistent.cuh>
#include <fprnn/cuda/fp_mamba_step.cuh>
#include <fprnn/cuda/half_rows.cuh>
#include <fprnn/cuda/launch.cuh>

namespace fprnn::cuda {

namespace {

// Quads of neighbouring channels lie together, so that neighbouring threads meet all banks.
template <class Of>
struct SharedState {
  real* first;
  real* kept_a;  // null: there is no room for A, or heads have one number of it
  const FpMambaSweep& in;
  __device__ __forceinline__ Quad* place(real* from, int64_t d, int64_t n) const {
    return reinterpret_cast<Quad*>(from) + n / Quad::kCount * in.D + d;
  }
  __device__ __forceinline__ Quad* at(int64_t d, int64_t n) const { return place(first, d, n); }
  __device__ __forceinline__ Quad a(int64_t d, int64_t n) const {
    return kept_a == nullptr ? load_states(in.a + d * in.N + n) : *place(kept_a, d, n);
  }
  __device__ __forceinline__ Quad load(int64_t d, int64_t n) const { return *at(d, n); }
  __device__ __forceinline__ void store(int64_t d, int64_t n, const Quad& h) const {
    *at(d, n) = h;
  }
  template <class T, class Channels, int C>
  __device__ __forceinline__ void decay(const T&, const Channels& channels, const real (&gained)[C],
                                        const real* before, const real* c, const real (&dt)[C],
                                        real keep, real* checkpoint, real (&carried)[C]) const {
    real of_step[C];
#pragma unroll
    for (int k = 0; k < C; ++k) {
      of_step[k] = dt[k] * kLog2e;
      carried[k] = 0;
    }
    if constexpr (Of::kHeads)
      channels.each([&](int k, int64_t d) {
        of_step[k] = exp2_decay(of_step[k] * in.a[Of::size_of(in, d)] + keep);
      });
#pragma unroll 1
    for (int n = 0; n < in.N; n += Quad::kCount) {
      const Quad of_before = load_states(before + n), of_c = load_states(c + n);
      channels.each([&](int k, int64_t d) {
        Quad h = load(d, n);
        real* const kept =
            checkpoint == nullptr ? nullptr : checkpoint + Of::kept_row(in, d) * in.N + n;
        if constexpr (Of::kHeads) {
          carried[k] += decay_quad(
              h, [&](int) { return of_step[k]; }, gained[k], of_before, of_c, kept);
        } else {
          const Quad of_a = a(d, n);
          carried[k] += decay_quad(
              h, [&](int j) { return exp2_decay(of_step[k] * of_a.v[j] + keep); }, gained[k],
              of_before, of_c, kept);
        }
        store(d, n, h);
      });
    }
  }
};

// Where things begin in a block's shared memory, each at a multiple of 16 bytes: for the block, then for each
// sequence.
struct BlockPlaces {
  int64_t a, y, factors, projected_y, sequence;  // (D, N) or -1, (G, D), (G), (G, P)
  // From the sequence's first on. each: reals of a sequence; ahead (2, of_x.end): what x decides of
  // this step and the next.
  int64_t state, b, c, team, mixer, ahead, each;
  StepPlaces of_x;
  int64_t end;

  // sizes: of step sizes.
  FPRNN_HOST_DEVICE BlockPlaces(const FpMambaSweep& in, int64_t G, int64_t of_team,
                                int64_t of_mixer, int64_t sizes, bool keeps_a)
      : of_x(in, sizes) {
    int64_t next = 0;
    const auto take = [&next](int64_t reals) {
      const int64_t at = next;
      next += (reals + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
      return at;
    };
    a = keeps_a ? take(in.D * in.N) : -1;
    y = take(G * in.D);
    factors = take(G);
    projected_y = take(G * in.P);
    sequence = next;
    next = 0;
    state = take(in.D * in.N);
    b = take(2 * in.N);  // of this step and the one before
    c = take(in.N);
    team = take(of_team);
    mixer = take(of_mixer);
    ahead = next;
    each = ahead + 2 * of_x.end;
    end = sequence + G * each;
  }
};

// out (G, P) <- y (G, D) W^T for W (P, D), by all warps of the block. A warp takes kRows rows at a
// time for all sequences; blocks begin at different ones, so that not all want the same at a time.
template <int G, int kWarps>
__device__ __forceinline__ void project(const real* __restrict__ w, int64_t P, int64_t D,
                                        const real* y, real* out) {
  constexpr int kRows = kWarp / G / (G > 2 ? 1 : 2);
  constexpr int kAtOnce = kWarps < 8 ? 2 : 1;  // few warps must ask for more at a time
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t groups = (P + kRows - 1) / kRows, begin = blockIdx.x * 13 % groups;
  for (int64_t i = warp; i < groups; i += kWarps) {
    const int64_t first = (i + begin < groups ? i + begin : i + begin - groups) * kRows;
    real total[kRows * G]{};
#pragma unroll kAtOnce
    for (int64_t d = lane * Quad::kCount; d < D; d += kWarp * Quad::kCount) {
      Quad x[G];
#pragma unroll
      for (int g = 0; g < G; ++g) x[g] = *reinterpret_cast<const Quad*>(y + g * D + d);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t row = first + r < P ? first + r : P - 1;
        const Quad of_w = load_from_l2(w + row * D + d);
#pragma unroll
        for (int g = 0; g < G; ++g)
#pragma unroll
          for (int q = 0; q < Quad::kCount; ++q) total[r * G + g] += of_w.v[q] * x[g].v[q];
      }
    }
    const real own = sums_by_lane(total);
    constexpr int kLanes = kWarp / (kRows * G);
    const int r = lane / kLanes / G, g = lane / kLanes % G;
    if (lane % kLanes == 0 && first + r < P) out[g * P + first + r] = own;
  }
}

template <class Mixer, class Of, int G>
__global__ void __launch_bounds__(Mixer::T::kSize* G, 1)
    fp_mamba_persistent_kernel(const FpMambaSweep in, const BlockPlaces places,
                               const HalfRows half) {
  using T = typename Mixer::T;
  constexpr int C = Mixer::C;
  extern __shared__ __align__(16) unsigned char bytes[];
  real* const shared = reinterpret_cast<real*>(bytes);
  const int g = threadIdx.x / T::kSize;
  // A team beyond the last sequence takes that one too, and writes what the other writes.
  const int64_t sequence = ::min(int64_t{blockIdx.x} * G + g, in.B - 1);
  real* const own = shared + places.sequence + g * places.each;
  real* const of_y = shared + places.y;
  const T team(own + places.team);
  const SharedState<Of> state{own + places.state, places.a < 0 ? nullptr : shared + places.a, in};

  const auto each_channel = [&](const auto& visit) { Mixer::each_channel(team, in, visit); };
  const int D = static_cast<int>(in.D), P = static_cast<int>(in.P);
  const HalfVectors<G> halves(reinterpret_cast<float*>(of_y),
                              reinterpret_cast<float*>(shared + places.factors), D);
  const auto keep_y = [&](const real(&y)[C]) {
    if (half.rows != nullptr)
      halves.put(team, each_channel, g, y);
    else
      each_channel([&](int k, int64_t d) { of_y[g * in.D + d] = y[k]; });
  };

  if (places.a >= 0)
    for (int64_t i = threadIdx.x * Quad::kCount; i < in.D * in.N; i += blockDim.x * Quad::kCount)
      *state.place(state.kept_a, i / in.N, i % in.N) = load_states(in.a + i);

  // Where the sequence begins.
  real gained[C]{}, y[C]{};
  team.each(in.D, [&](int64_t d) {
#pragma unroll 1
    for (int64_t n = 0; n < in.N; n += Quad::kCount)
      state.store(
          d, n,
          in.state != nullptr ? load_states(in.state + (sequence * in.D + d) * in.N + n) : Quad{});
  });
  team.each(2 * in.N, [&](int64_t n) { own[places.b + n] = 0; });
  if (in.previous != nullptr) {
    each_channel([&](int k, int64_t d) { y[k] = in.previous[sequence * in.D + d]; });
    keep_y(y);
  }
  const auto ahead = [&](int64_t t) { return own + places.ahead + t % 2 * places.of_x.end; };
  bring_step(team, StepToken<Of>(in, sequence, 0, nullptr), places.of_x, ahead(0));
  commit_async();
  wait_async<0>();
  __syncthreads();

  int32_t most = 0;
  real residual = 0;
  for (int64_t t = 0; t < in.T; ++t) {
    const bool sees_y = in.weight_y != nullptr && (t > 0 || in.previous != nullptr);
    if (sees_y) {
      constexpr int kWarps = G * T::kWarps;
      real* const out = shared + places.projected_y;
      if (half.rows == nullptr)
        project<G, kWarps>(in.weight_y, in.P, in.D, of_y, out);
      else
        multiply_rows<G, kWarps>(P, D, half, halves, out);
      __syncthreads();
      if (in.trace.product != nullptr)
        team.copy(in.P, out + g * in.P,
                  t > 0 ? in.trace.product + (sequence * in.T + t - 1) * in.P
                        : in.trace.of_previous + sequence * in.P);
    }
    if (t + 1 < in.T)
      bring_step(team, StepToken<Of>(in, sequence, t + 1, nullptr), places.of_x, ahead(t + 1));
    commit_async();
    real* const b = own + places.b;
    const int64_t now = t % 2 * in.N, before = in.N - now;
    const auto at =
        StepToken<Of>(in, sequence, t, sees_y ? shared + places.projected_y + g * in.P : nullptr)
            .brought(places.of_x, ahead(t));
    const int32_t count = solve_step<Mixer>(team, at, state, b + before, b + now, own + places.c,
                                            own + places.mixer, gained, y, residual)
                              .iterations;
    most = count > most ? count : most;
    keep_y(y);
    wait_async<0>();
    __syncthreads();
  }
  if (team.rank == 0) {
    in.iterations[sequence] = max(in.iterations[sequence], most);
    in.residual[sequence] = residual;
  }
  if (!in.state_wanted) return;
  const real* const b = own + places.b + (in.T - 1) % 2 * in.N;
  each_channel([&](int k, int64_t d) {
#pragma unroll 1
    for (int64_t n = 0; n < in.N; n += Quad::kCount) {
      Quad h = state.load(d, n);
#pragma unroll
      for (int j = 0; j < Quad::kCount; ++j) h.v[j] += gained[k] * b[n + j];
      store_states(in.state_out + (sequence * in.D + d) * in.N + n, h);
    }
  });
}

bool fit(Cuda cuda, const BlockPlaces& places) {
  return gpu(cuda).forms.fit(places.end * int64_t{sizeof(real)});
}
template <class Mixer, class Of>
BlockPlaces places_of(Cuda cuda, const FpMambaSweep& in) {
  const auto places = [&](bool keeps_a) {
    return BlockPlaces(in, Mixer::kSequences, Mixer::T::kSpace, Mixer::space(in.mixer, false),
                       Of::sizes(in), keeps_a);
  };
  return places(!Of::kHeads && fit(cuda, places(true)));
}

}  // namespace

template <class Of>
bool persists(Cuda cuda, const FpMambaSweep& args) {
  constexpr int64_t kMostWeights = 400'000;
  if (args.D % Quad::kCount != 0 || args.P * args.D > kMostWeights) return false;
  if (args.weight_y != nullptr && !quads_aligned(args.weight_y)) return false;
  bool fits = false;
  with_mixer(args.mixer, args.D, [&](auto type) {
    fits = fit(cuda, places_of<typename decltype(type)::type, Of>(cuda, args));
  });
  return fits;
}

template <class Of>
void run_persistent(Cuda cuda, const FpMambaSweep& args) {
  const KeptHalfRows rows = args.weight_y != nullptr && suits_halves(cuda, args.D)
                                ? KeptHalfRows(cuda, args.weight_y, args.P, args.D)
                                : KeptHalfRows();
  with_mixer(args.mixer, args.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    constexpr int G = Mixer::kSequences;
    const BlockPlaces places = places_of<Mixer, Of>(cuda, args);
    start(cuda, "fp_mamba_persistent", fp_mamba_persistent_kernel<Mixer, Of, G>,
          {.blocks = ceil_div(args.B, G),
           .threads = Mixer::T::kSize * G,
           .shared_bytes = places.end * sizeof(real)},
          args, places, rows.half);
  });
}

}  // namespace fprnn::cuda
