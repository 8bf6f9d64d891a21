// The sequential solver step by step (ops/fp_mamba_sweep.h): for each, one product of matrices and one
// kernel in which a warp takes a sequence. Lane l holds the channels l, l + 32, ... in registers; the
// mixer, b and c are made there and never stored. The state goes through once, from one of two places to the
// other: what the last step adds to it, an outer product, is added only now. That read and write
// (8 bytes for each of B D N) bound a step from below; its length is that of the chain of local
// iterations (cuda/local_solve.cuh).
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/matmul.h>
#include <fprnn/ops/outer.h>

namespace fprnn {

namespace cuda {
namespace {

// Step t of all sequences, and what passes from step to step.
struct Step {
  FpMambaSweep in;
  int64_t t;
  const real* from_y;  // (B, P) or null
  const real* from;    // (B, D, N) or null: what the last step has made of the state, and
  real* to;            // (B, D, N): this one; what a step adds to the state is still missing
  real* input;         // (B, D) and
  real* b;             // (B, N), whose outer product that is
};

// The sequence of this warp at this step, and where its rows are.
struct Token {
  const Step& step;
  int64_t b, row;
  __device__ Token(const Step& step, int64_t b) : step(step), b(b), row(b * step.in.T + step.t) {}
  __device__ real p(int64_t j) const {
    const real from_x = step.in.projected[row * step.in.P + j];
    return step.from_y == nullptr ? from_x : from_x + step.from_y[b * step.in.P + j];
  }
};

// The state of channel d through one step: h <- k exp(dt A) (h + input before^T). Returns h . c. Reads of
// one channel need not wait for writes of another: from and to are different memory.
__device__ __forceinline__ real decay_channel(const Token& at, const real* __restrict__ from,
                                              real* __restrict__ to, const Directions& s,
                                              const real* before, int64_t d, real dt, real keep) {
  const FpMambaSweep& in = at.step.in;
  const int64_t row = (at.b * in.D + d) * in.N;
  const real input = at.step.t == 0 ? real(0) : at.step.input[at.b * in.D + d];
  real total = 0;
#pragma unroll 4
  for (int64_t n = 0; n < in.N; n += Quad::kCount) {
    Quad h{};
    const Quad a = load_states(in.a + d * in.N + n);
    if (from != nullptr) h = load_states(from + row + n);
#pragma unroll
    for (int j = 0; j < Quad::kCount; ++j) {
      if (at.step.t > 0) h.v[j] += input * before[n + j];
      h.v[j] *= keep * exp2_decay(dt * kLog2e * a.v[j]);
      total += h.v[j] * s.c[n + j];
    }
    store_states(to + row + n, h);
  }
  return total;
}

template <class Mixer>
__global__ void __launch_bounds__(kWarp, 8) fp_mamba_step_kernel(const Step step) {
  constexpr int C = Mixer::C;
  extern __shared__ __align__(16) unsigned char bytes[];
  real* const shared = reinterpret_cast<real*>(bytes);
  const FpMambaSweep& in = step.in;
  const Token at(step, blockIdx.x);
  const Mixer mixer(
      in.mixer, in.D, in.eps, [&](int64_t j) { return at.p(j); }, shared + 3 * in.N, false);
  real* const before = shared + 2 * in.N;  // b of the last step, which gives way to this one's
  for (int64_t n = lane_of(); n < in.N && step.t > 0; n += kWarp)
    before[n] = step.b[at.b * in.N + n];
  const int64_t M = in.P - 2 * in.N;
  const Directions s(
      in.N, in.bc_norm, in.eps, [&](int64_t j) { return at.p(M + j); }, shared);
  for (int64_t n = lane_of(); n < in.N; n += kWarp) step.b[at.b * in.N + n] = s.b[n];
  const int64_t first = at.row * in.D;

  // A and S of the local equation.
  const real keep = in.keep == nullptr ? real(1) : in.keep[at.row];
  real unmixed[C], dt[C], offset[C], gain[C];
  for_channels(in.D, unmixed, [&](int64_t d) { return in.x[first + d]; });
  mixer.apply(unmixed);
  for_channels(in.D, dt,
               [&](int64_t d) { return softplus(in.delta[first + d] + in.delta_bias[d]); });
#pragma unroll
  for (int k = 0; k < C; ++k) offset[k] = gain[k] = 0;
  each_channel<C>(in.D, [&](int k, int64_t d) {
    const real carried = decay_channel(at, step.from, step.to, s, before, d, dt[k], keep);
    const real gate = in.z == nullptr ? real(1) : in.z[first + d] * sigmoid(in.z[first + d]);
    gain[k] = dt[k] * s.product + in.skip[d];
    offset[k] = gate * (carried + gain[k] * unmixed[k]);
    gain[k] *= gate;
  });

  real weight[C], bias[C], y[C], mixed[C];
  for_channels(in.D, weight, [&](int64_t d) { return in.norm_weight[d]; });
  for_channels(in.D, bias, [&](int64_t d) { return in.norm_bias[d]; });
  const LocalParameters parameters{.D = in.D,
                                   .scale = in.mixer.scale,
                                   .in_order = in.mixer.in_order,
                                   .normalised = true,
                                   .eps = in.eps,
                                   .tolerance = in.tolerance,
                                   .max_iterations = in.max_iterations};
  const int32_t count = mixer.solve(parameters, offset, gain, weight, bias, y);

  // What the state gains: dt (Q x + (I - Q) y) b^T.
#pragma unroll
  for (int k = 0; k < C; ++k) mixed[k] = y[k];
  mixer.apply(mixed);
  each_channel<C>(in.D, [&](int k, int64_t d) {
    in.y[first + d] = y[k];
    step.input[at.b * in.D + d] = dt[k] * (unmixed[k] + y[k] - mixed[k]);
  });
  if (threadIdx.x == 0) in.iterations[at.b] = max(in.iterations[at.b], count);
}

void start_step(Cuda cuda, const Step& step) {
  const FpMambaSweep& in = step.in;
  with_mixer(in.mixer, in.D, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t reals = 3 * in.N + Mixer::space(in.mixer, false);
    start(cuda, "fp_mamba_step", fp_mamba_step_kernel<Mixer>,
          {.blocks = in.B, .threads = kWarp, .shared_bytes = reals * sizeof(real)}, step);
  });
}

// from_y <- y_{t-1} W^T; null before the first step of a sequence without a past.
const real* multiply_y(Cuda cuda, const FpMambaSweep& in, int64_t t, const Tensor& from_y) {
  const bool first = t == 0;
  if (in.from_y == nullptr || (first && in.previous == nullptr)) return nullptr;
  run(cuda, Gemm{.a = first ? in.previous : in.y + (t - 1) * in.D,
                 .b = in.from_y,
                 .c = from_y.data(),
                 .M = in.B,
                 .N = in.P,
                 .K = in.D,
                 .lda = first ? in.D : in.T * in.D,
                 .ldb = in.D,
                 .ldc = in.P,
                 .transpose_b = true});
  return from_y.data();
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda, const FpMambaSweep& args) {
  return fits_a_warp(args.mixer, args.D) && states_fit(args);
}

void run(Cuda cuda, const FpMambaSweep& args) {
  if (args.B * args.T * args.D == 0) return;
  const Tensor from_y(cuda.context, {args.B, args.P}), input(cuda.context, {args.B, args.D});
  const Tensor b(cuda.context, {args.B, args.N});
  const Tensor other(cuda.context, {args.B, args.D, args.N});
  Step step{.in = args,
            .t = 0,
            .from_y = nullptr,
            .from = args.state,
            .to = nullptr,
            .input = input.data(),
            .b = b.data()};
  for (; step.t < args.T; ++step.t) {
    step.from_y = multiply_y(cuda, args, step.t, from_y);
    step.to = (args.T - step.t) % 2 == 1 ? args.state_out : other.data();  // which is the last
    start_step(cuda, step);
    step.from = step.to;
  }
  run(cuda, AddOuter{.h = args.state_out,
                     .u = input.data(),
                     .v = b.data(),
                     .out = args.state_out,
                     .tokens = args.B,
                     .M = args.D,
                     .N = args.N});
}

}  // namespace fprnn
