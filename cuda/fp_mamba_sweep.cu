// The sequential solver (ops/fp_mamba_sweep.h): in one kernel where that is faster
// (cuda/fp_mamba_persistent.cu), else step by step. For each there is one product of matrices and
// one kernel in which a team takes a sequence. The state goes through once, from one of two places
// to the other. That read and write (8 bytes for each of B D N) bound a step from below; its length
// is that of the chain of local iterations of the slowest sequence.
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
  const real* from;    // (B, D, N) or null: what the last step has made of the state, and
  real* to;            // (B, D, N): this one; what a step adds to the state is still missing
  real* gained;        // (B, D) and
  real* b;             // (B, N), whose outer product that is
};

// One sequence's.
struct MovedState {
  const real* __restrict__ from;
  real* __restrict__ to;
  const real* __restrict__ of_a;
  int64_t N;
  __device__ __forceinline__ Quad a(int64_t d, int64_t n) const {
    return load_states(of_a + d * N + n);
  }
  __device__ __forceinline__ Quad load(int64_t d, int64_t n) const {
    return from == nullptr ? Quad{} : load_states(from + d * N + n);
  }
  __device__ __forceinline__ void store(int64_t d, int64_t n, const Quad& h) const {
    store_states(to + d * N + n, h);
  }
};

template <class Mixer>
__global__ void __launch_bounds__(Mixer::T::kSize) fp_mamba_step_kernel(const Step step) {
  constexpr int C = Mixer::C;
  using T = typename Mixer::T;
  extern __shared__ __align__(16) unsigned char bytes[];
  real* const shared = reinterpret_cast<real*>(bytes);
  const FpMambaSweep& in = step.in;
  const T team(shared);
  real *const now = shared + T::kSpace, *const before = now + 2 * in.N;
  const int64_t b = blockIdx.x, states = b * in.D * in.N;
  real gained[C]{}, y[C];
  if (step.t > 0)
    Mixer::each_channel(team, in, [&](int k, int64_t d) { gained[k] = step.gained[b * in.D + d]; });
  team.each(in.N, [&](int64_t n) { before[n] = step.t > 0 ? step.b[b * in.N + n] : real(0); });
  team.sync();
  const StepToken at(in, b, step.t, step.from_y == nullptr ? nullptr : step.from_y + b * step.row);
  const MovedState state{step.from == nullptr ? nullptr : step.from + states, step.to + states,
                         in.a, in.N};
  const int32_t count =
      solve_step<Mixer>(team, at, state, before, now, now + in.N, before + in.N, gained, y);
  team.each(in.N, [&](int64_t n) { step.b[b * in.N + n] = now[n]; });
  Mixer::each_channel(team, in, [&](int k, int64_t d) { step.gained[b * in.D + d] = gained[k]; });
  if (team.rank == 0) in.iterations[b] = max(in.iterations[b], count);
}

void start_step(Cuda cuda, const Step& step) {
  const FpMambaSweep& in = step.in;
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t reals = Mixer::T::kSpace + 3 * in.N + Mixer::space(in.mixer, false);
    start(cuda, "fp_mamba_step", fp_mamba_step_kernel<Mixer>,
          {.blocks = in.B, .threads = Mixer::T::kSize, .shared_bytes = reals * sizeof(real)}, step);
  });
}

// y_{t-1} W^T goes where the sweep's products are wanted; null before the first step of a sequence
// without a past.
void multiply_y(Cuda cuda, Step& step) {
  const FpMambaSweep& in = step.in;
  const bool first = step.t == 0;
  if (in.from_y == nullptr || (first && in.previous == nullptr)) return;
  real* const to = first ? in.of_previous : in.product + (step.t - 1) * in.P;
  step.from_y = to;
  step.row = first ? in.P : in.T * in.P;
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
  const Tensor other(cuda.context, {args.B, args.D, args.N});
  Step step{.in = args,
            .t = 0,
            .from_y = nullptr,
            .row = 0,
            .from = args.state,
            .to = nullptr,
            .gained = gained.data(),
            .b = b.data()};
  for (; step.t < args.T; ++step.t) {
    multiply_y(cuda, step);
    step.to = (args.T - step.t) % 2 == 1 ? args.state_out : other.data();  // which is the last
    start_step(cuda, step);
    step.from = step.to;
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
