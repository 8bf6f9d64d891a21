// The ladder of the fixed-point solve (README.md): FP-Mamba's sequential solver with one Householder factor.
// All rungs but the first are the library's own functions, with what came later left out.
#include <fprnn/cuda/fp_mamba_persistent.cuh>
#include <fprnn/cuda/ladder/ladder.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>

namespace fprnn::ladder {

using namespace cuda;

namespace {

// What the threads of the naive solver's block share: thread d has channel d.
struct NaiveBlock {
  real *p, *y;  // (P), (D)
  real* partial;
  bool inside;
  __device__ real sum(real x) const { return block_sum(inside ? x : real(0), partial); }
  __device__ real largest(real x) const {
    return block_reduce(inside ? x : real(0), partial, Larger());
  }
};

// y = N(offset + gain (y - Q y)) by iteration from 0, as the definition has it; Q y = y - u (u . y)
// factor.
// Returns how many.
__device__ int32_t iterate_plainly(const NaiveBlock& block, const FpMambaSweep& in, real u,
                                   real factor, real offset, real gain, real& y) {
  const int d = block.inside ? static_cast<int>(threadIdx.x) : 0;
  y = 0;
  for (int32_t count = 1;; ++count) {
    const real moved = offset + gain * factor * u * block.sum(u * y);
    const real centred = moved - block.sum(moved) / in.D;
    const real variance = block.sum(centred * centred) / in.D;
    const real next =
        in.norm_weight[d] * centred * inverse_root(variance + in.eps) + in.norm_bias[d];
    const real change = block.largest(magnitude(next - y)), size = block.largest(magnitude(next));
    y = next;
    if (change <= in.tolerance * size || count >= in.max_iterations) return count;
  }
}

// p <- what is projected from x_t, and from y_{t-1} a row of W a thread.
__device__ void project_plainly(const NaiveBlock& block, const FpMambaSweep& in, int64_t t) {
  const int64_t sequence = blockIdx.x, row = sequence * in.T + t;
  const bool sees_y = in.weight_y != nullptr && (t > 0 || in.previous != nullptr);
  for (int64_t j = threadIdx.x; j < in.P; j += blockDim.x) {
    real total = 0;
    if (sees_y) {
      for (int64_t i = 0; i < in.D; ++i) total += in.weight_y[j * in.D + i] * block.y[i];
      (t > 0 ? in.trace.product + (row - 1) * in.P : in.trace.of_previous + sequence * in.P)[j] =
          total;
    }
    block.p[j] = in.projected[row * in.P + j] + total;
  }
}

// 1. A sequence a block, a channel a thread, W and the state from memory, sums over the block for
// each iteration.
__global__ void naive_solve_kernel(const FpMambaSweep in) {
  extern __shared__ real shared[];
  __shared__ real partial[kWarp];
  const bool inside = threadIdx.x < in.D;
  const int64_t sequence = blockIdx.x, d = inside ? threadIdx.x : 0;
  const NaiveBlock block{shared, shared + in.P, partial, inside};
  const int64_t states = (sequence * in.D + d) * in.N;
  real* const h = in.state_out + states;
  real y = in.previous == nullptr ? real(0) : in.previous[sequence * in.D + d];
  for (int64_t n = 0; inside && n < in.N; ++n)
    h[n] = in.state == nullptr ? real(0) : in.state[states + n];
  int32_t most = 0;
  for (int64_t t = 0; t < in.T; ++t) {
    const int64_t row = sequence * in.T + t, at = row * in.D + d;
    __syncthreads();
    if (inside) block.y[d] = y;
    __syncthreads();
    project_plainly(block, in, t);
    __syncthreads();
    // The mixer, b and c.
    real u = silu(block.p[d]);
    u *= inverse_length(block.sum(u * u), in.eps);
    const real factor = in.mixer.scale * sigmoid(block.p[in.D]);
    const real *const b = block.p + in.P - 2 * in.N, *const c = b + in.N;
    real bb = 0, cc = 0, bc = 0;
    for (int64_t n = 0; n < in.N; ++n) bb += b[n] * b[n], cc += c[n] * c[n], bc += b[n] * c[n];
    const real of_b = in.bc_norm ? inverse_length(bb, in.eps) : real(1);
    const real of_c = in.bc_norm ? inverse_length(cc, in.eps) : real(1);
    // The state decays; offset and gain of the local equation.
    const real keep = in.keep == nullptr ? real(1) : in.keep[row];
    const real dt = softplus(in.delta[at] + in.delta_bias[d]), x = in.x[at];
    const real mixed_x = x - factor * u * block.sum(u * x);
    real carried = 0;
    for (int64_t n = 0; inside && n < in.N; ++n) {
      h[n] *= keep * exp(dt * in.a[d * in.N + n]);
      carried += h[n] * c[n] * of_c;
    }
    const real gate = in.z == nullptr ? real(1) : silu(in.z[at]);
    const real gain = dt * bc * of_b * of_c + in.skip[d];
    const int32_t count =
        iterate_plainly(block, in, u, factor, gate * (carried + gain * mixed_x), gate * gain, y);
    most = count > most ? count : most;
    // What the state gains.
    const real gained = dt * (mixed_x + factor * u * block.sum(u * y));
    for (int64_t n = 0; inside && n < in.N; ++n) h[n] += gained * b[n] * of_b;
    if (inside) in.y[at] = y;
  }
  if (threadIdx.x == 0) in.iterations[sequence] = max(in.iterations[sequence], most);
}

void naive_solve(Cuda cuda, const FpMambaSweep& in) {
  require<ValueError>(in.mixer.rank == 1 && in.D <= 1024, "ladder",
                      "rank must be 1 and channels at most 1024", in.mixer.rank, in.D);
  start(cuda, "naive_solve", naive_solve_kernel,
        {.blocks = in.B,
         .threads = static_cast<int>(ceil_div(in.D, kWarp) * kWarp),
         .shared_bytes = (in.P + in.D) * sizeof(real)},
        in);
}

// Products are rounded so for a while, whatever the Context says.
class Rounding {
 public:
  Rounding(Cuda cuda, MatmulPrecision precision)
      : now_(gpu(cuda).matmul_precision), before_(std::exchange(now_, precision)) {}
  ~Rounding() { now_ = before_; }
  Rounding(const Rounding&) = delete;

 private:
  MatmulPrecision &now_, before_;
};

// 2. A product of matrices for all sequences and a kernel for each step; the local equation in r
// numbers.
void solve_by_steps(Cuda cuda, const FpMambaSweep& in) {
  const Rounding rounding(cuda, MatmulPrecision::fp32);
  run_step_by_step<OfFpMamba>(cuda, in);
}
// 3. All steps in one kernel, a block for four sequences, which reads all of W each step. Where four
// do not fit its shared memory it is rung 2.
void solve_persistently(Cuda cuda, const FpMambaSweep& in) {
  const Rounding rounding(cuda, MatmulPrecision::fp32);
  (persists<OfFpMamba>(cuda, in) ? run_persistent<OfFpMamba> : run_step_by_step<OfFpMamba>)(cuda,
                                                                                            in);
}
// 4. ops/fp_mamba_sweep.h itself: W in 16 bits a number.
void solve_in_use(Cuda cuda, const FpMambaSweep& in) {
  const Rounding rounding(cuda, MatmulPrecision::tf32);
  run(cuda, in);
}

constexpr SolveRung kRungs[] = {
    {"naive", naive_solve},
    {"step by step", solve_by_steps},
    {"one kernel, fp32", solve_persistently},
    {"in use, tf32", solve_in_use},
};

}  // namespace

std::span<const SolveRung> solve_rungs() { return kRungs; }

}  // namespace fprnn::ladder
