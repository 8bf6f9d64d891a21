// The sequential solver (ops/fp_mamba_sweep.h): in one kernel where that is faster
// (cuda/fp_mamba_persistent.cu), else step by step. For each there is one product of matrices and
// one kernel in which a team takes a sequence. The state goes through once. That read and write (8
// bytes for each of B D N) bound a step from below; its length is that of the chain of local
// iterations of the slowest sequence.
#include <fprnn/cuda/fp_mamba_persistent.cuh>
#include <fprnn/cuda/fp_mamba_step.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/outer.h>

namespace fprnn {

namespace cuda {
namespace {

// Step t of all sequences, and what passes from step to step.
struct Step {
  FpMambaSweep in;
  int64_t t;
  const real* from_y;  // null, or rows of P for each sequence,
  int64_t row;         // which are so far apart
  const real* from;    // (B, D, N) or null: the state; what the last step adds to it is missing
  real* gained;        // (B, D) and
  real* b;             // (B, N), whose outer product that is
};

// One sequence's state in memory. Neighbouring threads take neighbouring quads of it, so that what a warp asks for is
// one piece; so a channel is several threads', and what it needs and gives goes through shared
// memory.
struct StateInMemory {
  const real* from;  // (D, N) or null
  real* to;          // (D, N), may be the same
  const real* of_a;
  int64_t D, N;
  real* exchange;  // (3, D), shared

  template <class T, class Channels, int C>
  __device__ __forceinline__ void decay(const T& team, const Channels& channels,
                                        const real (&gained)[C], const real* before, const real* c,
                                        const real (&dt)[C], real keep, real (&carried)[C]) const {
    constexpr int kTogether = 4 * sizeof(float) / sizeof(real);  // quads on their way at a time
    real *const of_step = exchange, *const gains = of_step + D, *const totals = gains + D;
    channels.each([&](int k, int64_t d) {
      of_step[d] = dt[k] * kLog2e;
      gains[d] = gained[k];
    });
    team.sync();
    // Quads of a channel: the next power of two, at most a warp, which takes more in turns.
    const int quads = static_cast<int>(N) / Quad::kCount;
    int lanes = 1;
    while (lanes < quads && lanes < kWarp) lanes *= 2;
    const int lane = team.rank % lanes, rows = T::kSize / lanes;
    for (int64_t first = team.rank / lanes; first - team.rank / lanes < D;
         first += kTogether * rows) {
      real total[kTogether]{};
      for (int q = lane; q < quads; q += lanes) {
        Quad a[kTogether], h[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          const int64_t d = first + i * rows, at = d * N + q * Quad::kCount;
          h[i] = d < D && from != nullptr ? load_states(from + at) : Quad{};
          if (d < D) a[i] = load_states(of_a + at);
        }
#pragma unroll
        for (int i = 0; i < kTogether; ++i) {
          const int64_t d = first + i * rows, n = q * Quad::kCount;
          if (d >= D) continue;
          total[i] += decay_quad(h[i], a[i], gains[d], before + n, c + n, of_step[d], keep);
          store_states(to + d * N + n, h[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        for (int distance = lanes / 2; distance > 0; distance /= 2)
          total[i] += __shfl_xor_sync(kAllLanes, total[i], distance);
        if (lane == 0 && first + i * rows < D) totals[first + i * rows] = total[i];
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

template <class Mixer>
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
  team.sync();
  const StepToken at(in, b, step.t, step.from_y == nullptr ? nullptr : step.from_y + b * step.row);
  const StateInMemory state{step.from == nullptr ? nullptr : step.from + states,
                            in.state_out + states,
                            in.a,
                            in.D,
                            in.N,
                            exchange};
  real residual = step.t > 0 && in.residual != nullptr ? in.residual[b] : real(0);
  const int32_t count = solve_step<Mixer>(team, at, state, before, now, now + in.N,
                                          exchange + exchanged(in), gained, y, residual);
  team.each(in.N, [&](int64_t n) { step.b[b * in.N + n] = now[n]; });
  Mixer::each_channel(team, in, [&](int k, int64_t d) { step.gained[b * in.D + d] = gained[k]; });
  if (team.rank == 0) {
    in.iterations[b] = max(in.iterations[b], count);
    if (in.residual != nullptr) in.residual[b] = residual;
  }
}

void start_step(Cuda cuda, const Step& step) {
  const FpMambaSweep& in = step.in;
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t reals =
        Mixer::T::kSpace + 3 * in.N + exchanged(in) + Mixer::space(in.mixer, false);
    start(cuda, "fp_mamba_step", fp_mamba_step_kernel<Mixer>,
          {.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)}, step);
  });
}

// y_{t-1} W^T goes where the sweep's products are wanted, or to `passing` (B, P); null before the
// first step of a sequence without a past.
void multiply_y(Cuda cuda, const Tensor& passing, Step& step) {
  const FpMambaSweep& in = step.in;
  const bool first = step.t == 0;
  if (in.from_y == nullptr || (first && in.previous == nullptr)) return;
  const bool together = !first && in.product != nullptr;
  real* const to = together            ? in.product + (step.t - 1) * in.P
                   : passing.defined() ? passing.data()
                                       : in.of_previous;
  step.from_y = to;
  step.row = together ? in.T * in.P : in.P;
  run(cuda, Gemm{.a = first ? in.previous : in.y + (step.t - 1) * in.D,
                 .b = in.from_y,
                 .c = to,
                 .M = in.B,
                 .N = in.P,
                 .K = in.D,
                 .lda = first ? in.D : in.T * in.D,
                 .ldb = in.D,
                 .ldc = step.row,
                 .transpose_b = true});
}

}  // namespace

void run_step_by_step(Cuda cuda, const FpMambaSweep& args) {
  const Tensor gained(cuda.context, {args.B, args.D}), b(cuda.context, {args.B, args.N});
  const Tensor passing = args.from_y != nullptr && args.product == nullptr
                             ? Tensor(cuda.context, {args.B, args.P})
                             : Tensor();
  Step step{.in = args,
            .t = 0,
            .from_y = nullptr,
            .row = 0,
            .from = args.state,
            .gained = gained.data(),
            .b = b.data()};
  for (; step.t < args.T; ++step.t) {
    multiply_y(cuda, passing, step);
    start_step(cuda, step);
    step.from = args.state_out;
  }
  run(cuda, AddOuter{.h = args.state_out,
                     .u = gained.data(),
                     .v = b.data(),
                     .out = args.state_out,
                     .tokens = args.B,
                     .M = args.D,
                     .N = args.N});
}

}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const FpMambaSweep& args) {
  return fits_a_team(args.mixer, args.D) && states_fit(args);
}

void run(Cuda cuda, const FpMambaSweep& args) {
  if (args.B * args.T * args.D == 0) return;
  persists(cuda, args) ? run_persistent(cuda, args) : run_step_by_step(cuda, args);
}

}  // namespace fprnn
