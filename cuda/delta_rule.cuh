// What the delta rule's two chunk kernels share (ops/delta_rule.md): where things are in memory and
// in a block's shared memory, and a chunk's scalars, decays and triangular inverse. A block has a
// value head of a sequence and up to kColumns of its columns; a chunk has up to 32 sub-steps, which are
// rows. Whatever does not exist is zero: rows beyond a chunk's end, keys beyond d_k up to a multiple of
// 32, columns beyond d_v.
#pragma once

#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/warp_tile.cuh>
#include <fprnn/ops/delta_rule.h>

namespace fprnn::cuda::delta {

inline constexpr int kSteps = kDeltaRuleSteps;
static_assert(kSteps == kWarp, "lanes have a sub-step each, and a square is a tile wide");
using Square = real[kSteps][kSteps + 1];

// The most a block has room for: d_k, and columns.
template <int Keys, int Columns>
struct Form {
  static_assert(Keys % 32 == 0 && Columns % 32 == 0, "rows of WarpTile");
  static constexpr int kKeys = Keys, kColumns = Columns;
  using KeyRows = real[kSteps][Keys + 1];
  using ValueRows = real[kSteps][Columns + 1];
  using Matrix = real[Keys][Columns + 1];
};

struct Plan {
  int64_t chunks, tiles;  // of time; of columns
  int tokens;             // of a chunk
  int keys;               // d_k, filled up
};
template <class F>
Plan plan_of(const DeltaRuleForward& args) {
  return {.chunks = ceil_div(args.T, args.chunk),
          .tiles = ceil_div(args.V, F::kColumns),
          .tokens = static_cast<int>(args.chunk),
          .keys = static_cast<int>(ceil_div(args.K, kWarp) * kWarp)};
}

// What a block works on.
template <class F>
struct Place {
  const DeltaRuleForward& args;
  const Plan& plan;
  int64_t tile, head, b, key_head, column;
  int columns, padded;  // of the block; filled up

  __device__ __forceinline__ Place(const DeltaRuleForward& args, const Plan& plan)
      : args(args),
        plan(plan),
        tile(int64_t{blockIdx.x} % plan.tiles),
        head(int64_t{blockIdx.x} / plan.tiles % args.HV),
        b(int64_t{blockIdx.x} / plan.tiles / args.HV),
        key_head(head / (args.HV / args.H)),
        column(tile * F::kColumns),
        columns(static_cast<int>(::min(args.V - column, int64_t{F::kColumns}))),
        padded((columns + kWarp - 1) / kWarp * kWarp) {}

  // Sub-steps s are counted through all tokens t.
  __device__ __forceinline__ int64_t query(int64_t t) const {
    return ((b * args.T + t) * args.H + key_head) * args.K;
  }
  __device__ __forceinline__ int64_t key(int64_t s) const {
    return ((b * args.T * args.n + s) * args.H + key_head) * args.K;
  }
  __device__ __forceinline__ int64_t step(int64_t s) const {
    return (b * args.T * args.n + s) * args.HV + head;
  }
  __device__ __forceinline__ int64_t token(int64_t t) const {
    return (b * args.T + t) * args.HV + head;
  }
  __device__ __forceinline__ int64_t value(int64_t s) const { return step(s) * args.V + column; }
  __device__ __forceinline__ int64_t output(int64_t t) const { return token(t) * args.V + column; }
  __device__ __forceinline__ int64_t state() const {
    return (b * args.HV + head) * args.K * args.V + column;
  }
  __device__ __forceinline__ int64_t checkpoint(int64_t chunk) const {
    return ((b * plan.chunks + chunk) * args.HV + head) * args.K * args.V + column;
  }
};

struct Chunk {
  int64_t number, token;  // its first
  int tokens, steps;

  __device__ __forceinline__ Chunk(const DeltaRuleForward& args, const Plan& plan, int64_t number)
      : number(number),
        token(number * plan.tokens),
        tokens(static_cast<int>(::min(int64_t{plan.tokens}, args.T - token))),
        steps(tokens * static_cast<int>(args.n)) {}
};

__device__ __forceinline__ int warp_of() { return static_cast<int>(threadIdx.x) / kWarp; }

// Starts to bring `present` rows of `width` numbers, `distance` apart, zeros to the end of `rows` rows and
// `padded` numbers. Nothing is read where `from` is null.
template <int Stride>
__device__ __forceinline__ void fetch(real (*to)[Stride], int rows, int padded, const real* from,
                                      int64_t distance, int present, int width) {
  for (int row = warp_of(); row < rows; row += static_cast<int>(blockDim.x) / kWarp)
    for (int column = lane_of(); column < padded; column += kWarp) {
      const bool there = from != nullptr && row < present && column < width;
      if (there)
        copy_async<sizeof(real)>(&to[row][column], from + row * distance + column, true);
      else
        to[row][column] = 0;
    }
}
template <class F>
__device__ __forceinline__ void fetch_matrix(const Place<F>& at, typename F::Matrix& to,
                                             const real* from, int64_t offset) {
  fetch(to, at.plan.keys, at.padded, from == nullptr ? nullptr : from + offset, at.args.V,
        static_cast<int>(at.args.K), at.columns);
}
template <class F>
__device__ __forceinline__ void store_matrix(const Place<F>& at, const typename F::Matrix& from,
                                             real* to) {
  for (int row = warp_of(); row < at.args.K; row += static_cast<int>(blockDim.x) / kWarp)
    for (int column = lane_of(); column < at.columns; column += kWarp)
      to[row * at.args.V + column] = from[row][column];
}

// A chunk's scalars. G is the sum of g from the chunk's first token on. Sums are double, because a decay is
// the difference of two of them, which may be large.
struct Scalars {
  double token_sum[kSteps], sum[kSteps];  // G of tokens and of sub-steps
  real token_gain[kSteps], gain[kSteps];  // exp(G) of them
  real left[kSteps];                      // exp(G_end - G) of sub-steps
  real beta[kSteps];
  real gain_of_chunk;  // exp(G_end)

  // x = k_later . k_earlier, or q . k, decayed; 0 where the order is another. Masked first: other
  // exponents are above 0.
  __device__ __forceinline__ real between_keys(int later, int earlier, real x) const {
    return earlier < later ? exp(static_cast<real>(sum[later] - sum[earlier])) * x : real(0);
  }
  __device__ __forceinline__ real at_query(int64_t n, int token, int step, real x) const {
    return step < (token + 1) * n ? exp(static_cast<real>(token_sum[token] - sum[step])) * x
                                  : real(0);
  }
};

// By one whole warp; lanes have a token, then a sub-step. exp(g) of less than the least g is 0 in
// floats anyway, and the sums stay finite.
template <class F>
__device__ __forceinline__ void make_scalars(const Place<F>& at, const Chunk& chunk,
                                             Scalars& scalars) {
  constexpr real kLeast = kDouble ? -800 : -120;
  const int lane = lane_of(), n = static_cast<int>(at.args.n);
  double sum = 0;
  if (at.args.g != nullptr && lane < chunk.tokens)
    sum = at_least(at.args.g[at.token(chunk.token + lane)], kLeast);
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const double before = __shfl_up_sync(kAllLanes, sum, distance);
    if (lane >= distance) sum += before;
  }
  const double end = __shfl_sync(kAllLanes, sum, kWarp - 1);
  const double of_step = __shfl_sync(kAllLanes, sum, lane / n);
  scalars.token_sum[lane] = sum;
  scalars.token_gain[lane] = exp(static_cast<real>(sum));
  scalars.sum[lane] = of_step;
  scalars.gain[lane] = exp(static_cast<real>(of_step));
  scalars.left[lane] = exp(static_cast<real>(end - of_step));
  scalars.beta[lane] = lane < chunk.steps ? at.args.beta[at.step(chunk.token * n + lane)] : real(0);
  if (lane == 0) scalars.gain_of_chunk = exp(static_cast<real>(end));
}

// L, strictly lower triangular with zeros elsewhere, becomes (I + L)^-1, in plain multiply-adds: first
// both blocks of 16 on the diagonal, by one whole warp, a column a lane; then, by the block, the one
// below. In between and after that the block meets.
inline constexpr int kHalfSteps = kSteps / 2;
using HalfSquare = real[kHalfSteps][kHalfSteps + 1];

__device__ __forceinline__ void invert_diagonal(Square& L) {
  const int first = lane_of() / kHalfSteps * kHalfSteps, column = lane_of() % kHalfSteps;
  real x[kHalfSteps];
#pragma unroll
  for (int i = 0; i < kHalfSteps; ++i) {
    real sum = i == column ? 1 : 0;
#pragma unroll
    for (int j = 0; j < i; ++j) sum -= L[first + i][first + j] * x[j];
    x[i] = sum;
  }
  __syncwarp();
  unrolled<kHalfSteps>([&](int i) { L[first + i][first + column] = x[i]; });
}
// To be called by all threads; ends with the block's meeting.
__device__ __forceinline__ void invert_below(Square& T, HalfSquare& space) {
  for (int e = static_cast<int>(threadIdx.x); e < kHalfSteps * kHalfSteps;
       e += static_cast<int>(blockDim.x)) {
    const int i = e / kHalfSteps, j = e % kHalfSteps;
    real sum = 0;
    unrolled<kHalfSteps>([&](int l) { sum += T[kHalfSteps + i][l] * T[l][j]; });
    space[i][j] = sum;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < kHalfSteps * kHalfSteps;
       e += static_cast<int>(blockDim.x)) {
    const int i = e / kHalfSteps, j = e % kHalfSteps;
    real sum = 0;
    unrolled<kHalfSteps>([&](int l) { sum -= T[kHalfSteps + i][kHalfSteps + l] * space[l][j]; });
    T[kHalfSteps + i][j] = sum;
  }
  __syncthreads();
}

// Room for a kernel in dynamic shared memory.
template <class Room>
__device__ __forceinline__ Room& shared_room() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return *reinterpret_cast<Room*>(bytes);
}

}  // namespace fprnn::cuda::delta

namespace fprnn::cuda {

// The recurrence itself (cuda/delta_rule_steps.cu).
void run_delta_steps(Cuda cuda, const DeltaRuleForward& args);
// The chunk form with products in bf16, for d_k up to 128 (cuda/delta_rule_bf16.cu).
inline constexpr int64_t kMostBf16Keys = 128;
void run_delta_bf16(Cuda cuda, const DeltaRuleForward& args);

}  // namespace fprnn::cuda
