// The delta rule by chunks (ops/delta_rule.md). A block of eight warps goes through time with 64
// columns of a head's S in shared memory. A chunk is three rounds of products by tensor cores, between which
// one warp inverts the triangle; two blocks share a multiprocessor, so that one works while
// the other waits for its chunk.
#include <fprnn/cuda/delta_rule.cuh>

namespace fprnn {

namespace cuda {
namespace {

using namespace delta;

constexpr int kWarps = 8;
using Usual = Form<128, 64>;
using Long = Form<256, 32>;  // keys that not every GPU has room for

template <class F>
struct ForwardRoom {
  Scalars scalars;
  typename F::KeyRows k, q;
  typename F::Matrix S;
  typename F::ValueRows v;  // then beta (v - exp(G) S^T k), then R
  Square T, P;
  HalfSquare space;
};
static_assert(kDouble || sizeof(ForwardRoom<Usual>) <= kLeastBlockBytes);

template <class F>
__device__ __forceinline__ void fetch_chunk(const Place<F>& at, const Chunk& chunk,
                                            ForwardRoom<F>& room) {
  const DeltaRuleForward& args = at.args;
  const int width = static_cast<int>(args.K);
  const int64_t first = chunk.token * args.n;
  fetch(room.k, kSteps, at.plan.keys, args.k + at.key(first), args.H * args.K, chunk.steps, width);
  fetch(room.v, kSteps, at.padded, args.v + at.value(first), args.HV * args.V, chunk.steps,
        at.columns);
  fetch(room.q, kSteps, at.plan.keys, args.q + at.query(chunk.token), args.H * args.K, chunk.tokens,
        width);
  if (warp_of() == 0) make_scalars(at, chunk, room.scalars);
}

// T <- L, P <- q . k decayed, v <- beta (v - exp(G) S^T k): eight tiles where there are 64 columns.
template <int Parts, class F>
__device__ __forceinline__ void read_keys(const Place<F>& at, ForwardRoom<F>& room) {
  const int keys = at.plan.keys;
  const Scalars& of = room.scalars;
  for (int tile = warp_of(); tile < 4 + at.padded / 16; tile += kWarps) {
    WarpTile<Parts> sums;
    const int row = tile % 2 * 16;
    if (tile < 4) {
      const typename F::KeyRows& rows = tile < 2 ? room.k : room.q;
      sums.add(keys, along(rows, row), along(room.k, 0));
      sums.give([&](int i, int j, real x) {
        const int r = row + i;
        if (tile < 2)
          room.T[r][j] = of.beta[r] * of.between_keys(r, j, x);
        else
          room.P[r][j] = of.at_query(at.args.n, r, j, x);
      });
    } else {
      const int column = (tile - 4) / 2 * 32;
      sums.add(keys, along(room.k, row), across(room.S, column));
      sums.give([&](int i, int j, real x) {
        real& v = room.v[row + i][column + j];
        v = of.beta[row + i] * (v - of.gain[row + i] * x);
      });
    }
  }
}

// The sums are of S^T q; what they become is written.
template <int Parts, class F>
__device__ __forceinline__ void put_output(const Place<F>& at, const Chunk& chunk, int row,
                                           int column, const ForwardRoom<F>& room,
                                           WarpTile<Parts>& sums) {
  sums.scale([&](int i) { return room.scalars.token_gain[row + i]; });
  sums.add(kSteps, along(room.P, row), across(room.v, column));
  real* const o = at.args.o + at.output(chunk.token);
  const int64_t distance = at.args.HV * at.args.V;
  sums.give([&](int i, int j, real x) {
    if (row + i < chunk.tokens && column + j < at.columns)
      o[(row + i) * distance + column + j] = at.args.scale * x;
  });
}

template <int Parts, class F>
__device__ __forceinline__ void advance(const Place<F>& at, ForwardRoom<F>& room) {
  const int tiles = at.padded / 32;
  for (int tile = warp_of(); tile < at.plan.keys / 16 * tiles; tile += kWarps) {
    WarpTile<Parts> sums;
    const int row = tile / tiles * 16, column = tile % tiles * 32;
    sums.add(
        kSteps, [&](int i, int l) { return room.k[l][row + i] * room.scalars.left[l]; },
        across(room.v, column));
    sums.give([&](int i, int j, real x) {
      real& S = room.S[row + i][column + j];
      S = room.scalars.gain_of_chunk * S + x;
    });
  }
}

template <int Parts, class F>
__device__ __forceinline__ void forward_chunk(const Place<F>& at, const Chunk& chunk,
                                              ForwardRoom<F>& room) {
  read_keys<Parts>(at, room);
  __syncthreads();
  // The upper four warps have a tile of the outputs each, the lower ones one of R.
  const int warp = warp_of(), tile = warp % 4, row = tile % 2 * 16, column = tile / 2 * 32;
  const bool works = column < at.padded, reads = works && warp >= 4, solves = works && warp < 4;
  WarpTile<Parts> sums;
  if (warp == 0) invert_diagonal(room.T);
  if (reads) sums.add(at.plan.keys, along(room.q, row), across(room.S, column));
  __syncthreads();
  invert_below(room.T, room.space);
  if (solves) sums.add(kSteps, along(room.T, row), across(room.v, column));
  __syncthreads();
  if (solves) sums.give([&](int i, int j, real x) { room.v[row + i][column + j] = x; });
  __syncthreads();
  if (reads) put_output(at, chunk, row, column, room, sums);
  advance<Parts>(at, room);
  __syncthreads();
}

template <int Parts, class F>
__global__ void __launch_bounds__(kWarps* kWarp, 2)
    delta_rule_forward_kernel(const DeltaRuleForward args, const Plan plan) {
  auto& room = shared_room<ForwardRoom<F>>();
  const Place<F> at(args, plan);
  fetch_matrix(at, room.S, args.entering, at.state());
#pragma unroll 1
  for (int64_t number = 0; number < plan.chunks; ++number) {
    const Chunk chunk(args, plan, number);
    fetch_chunk(at, chunk, room);
    commit_async();
    wait_async<0>();
    __syncthreads();
    if (args.checkpoints != nullptr)
      store_matrix(at, room.S, args.checkpoints + at.checkpoint(number));
    forward_chunk<Parts>(at, chunk, room);
  }
  commit_async();
  wait_async<0>();
  __syncthreads();
  store_matrix(at, room.S, args.state + at.state());
}

// Whether so few sub-steps are asked for that the recurrence is faster.
bool by_steps(const DeltaRuleForward& args) { return args.T * args.n <= kDeltaRuleSteps; }

template <class F>
void run_chunks(Cuda cuda, const DeltaRuleForward& args) {
  const Plan plan = plan_of<F>(args);
  const bool fp32 = args.exact || gpu(cuda).matmul_precision == MatmulPrecision::fp32;
  start(cuda, "delta_rule_forward",
        fp32 ? delta_rule_forward_kernel<3, F> : delta_rule_forward_kernel<1, F>,
        {.blocks = args.B * args.HV * plan.tiles,
         .threads = kWarps * kWarp,
         .shared_bytes = sizeof(ForwardRoom<F>)},
        args, plan);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const DeltaRuleForward& args) {
  if (by_steps(args))
    run_delta_steps(cuda, args);
  else if (!kDouble && !args.exact && args.K <= kMostBf16Keys &&
           gpu(cuda).matmul_precision == MatmulPrecision::bf16)
    run_delta_bf16(cuda, args);
  else if (args.K <= Usual::kKeys)
    run_chunks<Usual>(cuda, args);
  else
    run_chunks<Long>(cuda, args);
}

}  // namespace fprnn
