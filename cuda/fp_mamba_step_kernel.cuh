// The sequential solver (ops/fp_mamba_sweep.h) step by step. For each there is one product of
// matrices, in tf32 and bf16 of y and W in 16 bits a number (cuda/half_product.cuh), and one kernel
// in which a team takes a sequence; of many sequences, one of each for either half. The state goes
// through once. That read and write (8 bytes for each of B D N) bound a step from below; its length is that
// of the chain of local iterations of the slowest sequence.
#pragma once

#include <fprnn/cuda/fp_mamba_persistent.cuh>
#include <fprnn/cuda/fp_mamba_step.cuh>
#include <fprnn/cuda/half_product.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep.cuh>
#include <fprnn/ops/outer.h>

namespace fprnn::cuda {

namespace {

// Step t of all sequences, and what passes from step to step.
struct Step {
  FpMambaSweep in;
  int64_t t;
  const real* projected_y;  // null, or rows of P for each sequence,
  int64_t row;              // which are so far apart
  const real* from;  // (B, D, N) or null: the state; what the last step adds to it is missing
  real* gained;      // (B, D) and
  real* b;           // (B, N), whose outer product that is
  HalfRows w;        // W, if the products are of halves, else null; then
  __half* halves;    // (B, D) and
  float* factor;     // (B) are y for them (cuda/half_product.cuh)
};

// One sequence's state in memory. Neighbouring threads take neighbouring quads of it, so that what a warp asks for is
// one piece; so a channel is several threads', and what it needs and gives goes through shared
// memory.
template <class Of>
struct StateInMemory {
  const real* from;  // (D, N) or null
  real* to;          // (D, N), may be the same
  const real* of_a;
  int64_t D, N;
  real* exchange;  // (3, D), shared
  const FpMambaSweep& in;

  template <class T, class Channels, int C>
  __device__ __forceinline__ void decay(const T& team, const Channels& channels,
                                        const real (&gained)[C], const real* before, const real* c,
                                        const real (&dt)[C], real keep, real* checkpoint,
                                        real (&carried)[C]) const {
    constexpr int kTogether = 4 * sizeof(float) / sizeof(real);  // quads on their way at a time
    real *const of_step = exchange, *const gains = of_step + D, *const totals = gains + D;
    channels.each([&](int k, int64_t d) {
      of_step[d] = dt[k] * kLog2e;
      if constexpr (Of::kHeads)
        of_step[d] = exp2_decay(dt[k] * kLog2e * of_a[Of::size_of(in, d)] + keep);
      gains[d] = gained[k];
    });
    team.sync();
    // Quads of a channel: the next power of two, at most a warp, which takes more in turns.
    const int channels_of = static_cast<int>(D), states = static_cast<int>(N),
              quads = states / Quad::kCount;
    int lanes = 1;
    while (lanes < quads && lanes < kWarp) lanes *= 2;
    const int lane = team.rank % lanes, rows = T::kSize / lanes;
    for (int first = team.rank / lanes; first - team.rank / lanes < channels_of;
         first += kTogether * rows) {
      real total[kTogether]{};
      for (int q = lane; q < quads; q += lanes) {
        const Quad of_before = load_states(before + q * Quad::kCount),
                   of_c = load_states(c + q * Quad::kCount);
        Quad a[kTogether], h[kTogether];
        const auto place = [&](int i) { return (first + i * rows) * states + q * Quad::kCount; };
        const auto kept = [&](int d, int at) { return at + (Of::kept_row(in, d) - d) * states; };
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          const bool inside = first + i * rows < channels_of;
          h[i] = inside && from != nullptr ? load_states(from + place(i)) : Quad{};
          if constexpr (!Of::kHeads)
            if (inside) a[i] = load_states(of_a + place(i));
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          const int d = first + i * rows;
          if (d >= channels_of) continue;
          const real own = of_step[d];
          const auto factor = [&](int j) {
            return Of::kHeads ? own : exp2_decay(own * a[i].v[j] + keep);
          };
          total[i] += decay_quad(h[i], factor, gains[d], of_before, of_c,
                                 checkpoint == nullptr ? nullptr : checkpoint + kept(d, place(i)));
          store_states(to + place(i), h[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        for (int distance = lanes / 2; distance > 0; distance /= 2)
          total[i] += __shfl_xor_sync(kAllLanes, total[i], distance);
        if (lane == 0 && first + i * rows < channels_of) totals[first + i * rows] = total[i];
      }
    }
    team.sync();
    channels.each([&](int k, int64_t d) { carried[k] = totals[d]; });
  }
};

// Reals of `exchange`, a multiple of 16 bytes.
FPRNN_HOST_DEVICE inline int64_t exchanged(const FpMambaSweep& in) {
  return (3 * in.D + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
}

// Reals of what a step has brought, which p's part from y is the last of.
template <class Of>
FPRNN_HOST_DEVICE int64_t brought(const FpMambaSweep& in) {
  const int64_t projected_y = in.weight_y == nullptr ? 0 : in.P;
  return StepPlaces(in, Of::sizes(in)).end +
         (projected_y + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
}

template <class Mixer, class Of>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_mamba_step_kernel(const Step step) {
  constexpr int C = Mixer::C;
  using T = typename Mixer::T;
  extern __shared__ __align__(16) unsigned char bytes[];
  real* const shared = reinterpret_cast<real*>(bytes);
  const FpMambaSweep& in = step.in;
  const T team(shared);
  real *const now = shared + T::kSpace, *const before = now + 2 * in.N;
  real* const exchange = before + in.N;  // N is a multiple of a quad
  const int64_t b = blockIdx.x, states = b * in.D * in.N;
  real gained[C]{}, y[C];
  if (step.t > 0)
    Mixer::each_channel(team, in, [&](int k, int64_t d) { gained[k] = step.gained[b * in.D + d]; });
  team.each(in.N, [&](int64_t n) { before[n] = step.t > 0 ? step.b[b * in.N + n] : real(0); });
  const StepToken<Of> far(in, b, step.t, nullptr);
  const StepPlaces places(in, Of::sizes(in));
  real* const near = exchange + exchanged(in);
  bring_step(team, far, places, near);
  if (step.projected_y != nullptr)
    bring(team, in.P, step.projected_y + b * step.row, near + places.end);
  commit_async();
  wait_async<0>();
  team.sync();
  StepToken<Of> at = far.brought(places, near);
  if (step.projected_y != nullptr) at.projected_y = near + places.end;
  const StateInMemory<Of> state{step.from == nullptr ? nullptr : step.from + states,
                                in.state_out + states,
                                in.a,
                                in.D,
                                in.N,
                                exchange,
                                in};
  real residual = step.t > 0 ? in.residual[b] : real(0);
  const auto [count, bound] = solve_step<Mixer>(team, at, state, before, now, now + in.N,
                                                near + brought<Of>(in), gained, y, residual);
  if (step.halves != nullptr) {
    const float to = scale_to_one(static_cast<float>(bound));
    Mixer::each_channel(team, in, [&](int k, int64_t d) {
      step.halves[b * in.D + d] = __float2half_rn(to * static_cast<float>(y[k]));
    });
    if (team.rank == 0) step.factor[b] = inverse_of_power(to);
  }
  team.each(in.N, [&](int64_t n) { step.b[b * in.N + n] = now[n]; });
  Mixer::each_channel(team, in, [&](int k, int64_t d) { step.gained[b * in.D + d] = gained[k]; });
  if (team.rank == 0) {
    in.iterations[b] = max(in.iterations[b], count);
    in.residual[b] = residual;
  }
}

template <class Mixer, class Of>
Grid grid_of(const FpMambaSweep& in) {
  const int64_t reals =
      Mixer::T::kSpace + 3 * in.N + exchanged(in) + brought<Of>(in) + Mixer::space(in.mixer, false);
  return {.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)};
}
template <class Of>
void start_step(Cuda cuda, const Step& step) {
  with_mixer(step.in.mixer, step.in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start(cuda, "fp_mamba_step", fp_mamba_step_kernel<Mixer, Of>, grid_of<Mixer, Of>(step.in),
          step);
  });
}

// y_{t-1} W^T goes where the sweep's products are wanted, or to `passing` (B, P); null before the
// first step of a sequence without a past.
inline void multiply_y(Cuda cuda, real* passing, Step& step) {
  const FpMambaSweep& in = step.in;
  const bool first = step.t == 0;
  if (in.weight_y == nullptr || (first && in.previous == nullptr)) return;
  const bool together = !first && in.trace.product != nullptr;
  real* const to = together             ? in.trace.product + (step.t - 1) * in.P
                   : passing != nullptr ? passing
                                        : in.trace.of_previous;
  step.projected_y = to;
  step.row = together ? in.T * in.P : in.P;
  if (step.halves != nullptr)
    return multiply_halves(cuda, {.vectors = step.halves,
                                  .factor = step.factor,
                                  .w = step.w,
                                  .out = to,
                                  .stride = step.row,
                                  .count = static_cast<int>(in.B),
                                  .P = static_cast<int>(in.P),
                                  .D = static_cast<int>(in.D)});
  multiply_previous(cuda, in, step.t, to, step.row);
}

// Sequences of a multiprocessor from which on they are two halves.
constexpr int64_t kSequences = 2;

// `count` sequences from `first` on.
template <class Of>
FpMambaSweep part_of(const FpMambaSweep& whole, int64_t first, int64_t count) {
  FpMambaSweep part = whole;
  const auto skip = [first](auto*& of, int64_t each) {
    if (of != nullptr) of += first * each;
  };
  const int64_t T = whole.T, D = whole.D, N = whole.N, P = whole.P;
  skip(part.x, T * D);
  skip(part.projected, T * P);
  skip(part.delta, T * Of::sizes(whole));
  skip(part.z, T * D);
  skip(part.keep, T);
  skip(part.previous, D);
  skip(part.state, D * N);
  skip(part.y, T * D);
  skip(part.state_out, D * N);
  skip(part.iterations, 1);
  skip(part.residual, 1);
  FpMambaSweepTrace& record = part.trace;
  skip(record.product, T * P);
  skip(record.of_previous, P);
  skip(record.mixed, T * D);
  skip(record.b, T * N);
  skip(record.c, T * N);
  skip(record.scanned, T * D);
  skip(record.checkpoints, Of::kept(whole));
  skip(record.statistics, T * 2);
  part.B = count;
  return part;
}

}  // namespace

template <class Of>
void run_step_by_step(Cuda cuda, const FpMambaSweep& args) {
  const Tensor gained(cuda.context, {args.B, args.D}), b(cuda.context, {args.B, args.N});
  const Tensor passing = args.weight_y != nullptr && args.trace.product == nullptr
                             ? Tensor(cuda.context, {args.B, args.P})
                             : Tensor();
  const bool multiplies = args.weight_y != nullptr && (args.T > 1 || args.previous != nullptr);
  KeptHalfRows w, y;
  if (multiplies && suits_halves(cuda, args.D)) {
    w = KeptHalfRows(cuda, args.weight_y, args.P, args.D);
    y = args.previous == nullptr ? KeptHalfRows(cuda, args.B, args.D)
                                 : KeptHalfRows(cuda, args.previous, args.B, args.D);
  }
  const bool halved = w.half.rows != nullptr;
  const auto run_part = [&](int64_t first, int64_t end) {
    Step step{.in = part_of<Of>(args, first, end - first),
              .t = 0,
              .projected_y = nullptr,
              .row = 0,
              .from = nullptr,
              .gained = gained.data() + first * args.D,
              .b = b.data() + first * args.N,
              .w = w.half,
              .halves = halved ? y.numbers() + first * args.D : nullptr,
              .factor = halved ? y.scales() + first : nullptr};
    const FpMambaSweep& in = step.in;
    step.from = in.state;
    for (; step.t < in.T; ++step.t) {
      multiply_y(cuda, passing.defined() ? passing.data() + first * args.P : nullptr, step);
      start_step<Of>(cuda, step);
      step.from = in.state_out;
    }
    if (in.state_wanted)
      run(cuda, AddOuter{.h = in.state_out,
                         .u = step.gained,
                         .v = step.b,
                         .out = in.state_out,
                         .tokens = in.B,
                         .M = in.D,
                         .N = in.N});
  };
  // A step waits for its slowest sequence. Where there are many, half of them have the GPU meanwhile.
  if (args.B < kSequences * gpu(cuda).multiprocessors) return run_part(0, args.B);
  const int64_t half = args.B / 2;
  side_by_side(
      cuda, [&] { run_part(0, half); }, [&] { run_part(half, args.B); });
}

template <class Of>
bool fits_step_by_step(Cuda cuda, const FpMambaSweep& args) {
  if (!fits_a_team(args.mixer, args.D) || !states_fit(args)) return false;
  bool fits = false;
  with_mixer(args.mixer, args.D, [&](auto type) {
    fits = gpu(cuda).forms.fit(grid_of<typename decltype(type)::type, Of>(args).shared_bytes);
  });
  return fits;
}

}  // namespace fprnn::cuda
