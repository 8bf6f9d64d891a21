// The delta rule's gradient by chunks, from the last to the first (ops/delta_rule.md). A block has
// up to 64 columns of a head's S and of Z, the cotangent of the state that leaves the chunk, in shared memory; S comes
// from the chunk's checkpoint. Where several blocks share a key head, each writes its own dq and
// dk, and these are added up in order afterwards.
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/delta_rule.cuh>

namespace fprnn {

namespace cuda {
namespace {

using namespace delta;

using Usual = Form<128, 64>;
using Narrow = Form<128, 32>;  // what every GPU has room for
using Long = Form<256, 32>;

// Products of a row with its gradients, of which dG is made.
enum OfRow { kQuery, kReadKey, kWrittenKey, kLeaving, kRowSums };

template <class F>
struct BackwardRoom {
  static constexpr int kWarps = F::kColumns / 4;
  Scalars scalars;
  typename F::KeyRows k, q;
  typename F::Matrix S, Z;
  typename F::ValueRows e;    // v, then v - exp(G) S^T k, then the error
  typename F::ValueRows R;    // beta times the error
  typename F::ValueRows d_o;  // times scale
  typename F::ValueRows X;    // dR, then the cotangent of beta (v - exp(G) S^T k)
  union {
    Square M;  // k . k decayed, strictly lower; then
    real of_rows[kRowSums][kSteps][F::kKeys / 32];
  };
  Square T;  // (I + beta M)^-1, then beta dL decayed
  Square P;  // q . k decayed, then its cotangent decayed
  HalfSquare space;
  real of_states[kWarps];  // parts of <S, Z>
};
static_assert(kDouble || sizeof(BackwardRoom<Narrow>) <= kLeastBlockBytes);

template <class F>
__device__ __forceinline__ void fetch_chunk(const Place<F>& at, const DeltaRuleBackward& args,
                                            const Chunk& chunk, BackwardRoom<F>& room) {
  const int width = static_cast<int>(args.K), keys = at.plan.keys;
  const int64_t first = chunk.token * args.n, distance = args.H * args.K;
  fetch(room.k, kSteps, keys, args.k + at.key(first), distance, chunk.steps, width);
  fetch(room.q, kSteps, keys, args.q + at.query(chunk.token), distance, chunk.tokens, width);
  fetch(room.e, kSteps, at.padded, args.v + at.value(first), args.HV * args.V, chunk.steps,
        at.columns);
  fetch_matrix(at, room.S, args.checkpoints, at.checkpoint(chunk.number));
  commit_async();
  const real* const d_o = args.d_o == nullptr ? nullptr : args.d_o + at.output(chunk.token);
  for (int row = warp_of(); row < kSteps; row += room.kWarps)
    for (int column = lane_of(); column < at.padded; column += kWarp) {
      const bool there = d_o != nullptr && row < chunk.tokens && column < at.columns;
      room.d_o[row][column] = there ? args.scale * d_o[row * args.HV * args.V + column] : real(0);
    }
  if (warp_of() == 0) make_scalars(at, chunk, room.scalars);
  wait_async<0>();
}

// M, T <- L, P, and e <- v - exp(G) S^T k.
template <int Parts, class F>
__device__ __forceinline__ void read_keys(const Place<F>& at, BackwardRoom<F>& room) {
  const int keys = at.plan.keys;
  const Scalars& of = room.scalars;
  for (int tile = warp_of(); tile < 4 + at.padded / 16; tile += room.kWarps) {
    WarpTile<Parts> sums;
    const int row = tile % 2 * 16;
    if (tile < 4) {
      const typename F::KeyRows& rows = tile < 2 ? room.k : room.q;
      sums.add(keys, along(rows, row), along(room.k, 0));
      sums.give([&](int i, int j, real x) {
        const int r = row + i;
        if (tile < 2) {
          const real m = of.between_keys(r, j, x);
          room.M[r][j] = m;
          room.T[r][j] = of.beta[r] * m;
        } else {
          room.P[r][j] = of.at_query(at.args.n, r, j, x);
        }
      });
    } else {
      const int column = (tile - 4) / 2 * 32;
      sums.add(keys, along(room.k, row), across(room.S, column));
      sums.give([&](int i, int j, real x) {
        room.e[row + i][column + j] -= room.scalars.gain[row + i] * x;
      });
    }
  }
}

// X <- dR = exp(G_end - G) Z^T k + P^T do; then R, and X <- T^T dR; then the errors.
template <int Parts, class F>
__device__ __forceinline__ void solve(const Place<F>& at, BackwardRoom<F>& room) {
  // Half of the warps have a tile of X each, the others one of R and of the errors.
  constexpr int kTiles = F::kColumns / 16;
  static_assert(2 * kTiles <= BackwardRoom<F>::kWarps);
  const int warp = warp_of(), tile = warp % kTiles, row = tile % 2 * 16, column = tile / 2 * 32;
  const bool works = column < at.padded && warp < 2 * kTiles;
  const bool returns = works && warp >= kTiles, solves = works && warp < kTiles;
  if (warp == 0) invert_diagonal(room.T);
  if (returns) {
    WarpTile<Parts> sums;
    sums.add(at.plan.keys, along(room.k, row), across(room.Z, column));
    sums.scale([&](int i) { return room.scalars.left[row + i]; });
    sums.add(kSteps, across(room.P, row), across(room.d_o, column));
    sums.give([&](int i, int j, real x) { room.X[row + i][column + j] = x; });
  }
  __syncthreads();
  invert_below(room.T, room.space);
  WarpTile<Parts> sums;
  if (solves)
    sums.add(kSteps, along(room.T, row),
             [&](int j, int l) { return room.scalars.beta[l] * room.e[l][column + j]; });
  if (returns) sums.add(kSteps, across(room.T, row), across(room.X, column));
  __syncthreads();
  if (solves) sums.give([&](int i, int j, real x) { room.R[row + i][column + j] = x; });
  if (returns) sums.give([&](int i, int j, real x) { room.X[row + i][column + j] = x; });
  __syncthreads();
  if (solves) {
    WarpTile<Parts> read;
    read.add(kSteps, along(room.M, row), across(room.R, column));
    read.give([&](int i, int j, real x) { room.e[row + i][column + j] -= x; });
  }
}

// T <- beta dL decayed, dL = -X R^T, and P <- do R^T decayed: by the last four warps.
template <int Parts, class F>
__device__ __forceinline__ void return_squares(const Place<F>& at, BackwardRoom<F>& room) {
  const int tile = warp_of() - (room.kWarps - 4);
  if (tile < 0) return;
  const Scalars& of = room.scalars;
  const typename F::ValueRows& rows = tile < 2 ? room.X : room.d_o;
  const int row = tile % 2 * 16;
  WarpTile<Parts> sums;
  sums.add(at.padded, along(rows, row), along(room.R, 0));
  sums.give([&](int i, int j, real x) {
    const int r = row + i;
    if (tile < 2)
      room.T[r][j] = -of.beta[r] * of.between_keys(r, j, x);
    else
      room.P[r][j] = of.at_query(at.args.n, r, j, x);
  });
}

// Where a block's gradients go: those of the block's place alone, or its share of a sum.
template <class F>
struct Gradients {
  real *dq, *dk, *dbeta, *dg;
  __device__ __forceinline__ Gradients(const Place<F>& at, const DeltaRuleBackward& args) {
    const int64_t tokens = args.B * args.T,
                  share = at.head % (args.HV / args.H) * at.plan.tiles + at.tile;
    dq = args.dq + share * tokens * args.H * args.K;
    dk = args.dk + share * tokens * args.n * args.H * args.K;
    dbeta = args.dbeta + at.tile * tokens * args.n * args.HV;
    dg = args.dg == nullptr ? nullptr : args.dg + at.tile * tokens * args.HV;
  }
};

// Sums (a tile from row and column on) to rows of d_k numbers, of which so many are there.
template <int Parts, class F>
__device__ __forceinline__ void put_keys(const Place<F>& at, const WarpTile<Parts>& sums, int row,
                                         int column, int rows, real* to) {
  sums.give([&](int i, int j, real x) {
    if (row + i < rows && column + j < at.args.K)
      to[(row + i) * at.args.H * at.args.K + column + j] = x;
  });
}
// A tile of dq, or of dk.
template <int Parts, class F>
__device__ __forceinline__ void return_queries(const Place<F>& at, const Chunk& chunk, int row,
                                               int column, BackwardRoom<F>& room, real* dq) {
  WarpTile<Parts> sums;
  sums.add(at.padded, along(room.d_o, row), along(room.S, column));
  sums.scale([&](int i) { return room.scalars.token_gain[row + i]; });
  sums.add(kSteps, along(room.P, row), across(room.k, column));
  sums.row_sums([&](int i, int j) { return room.q[row + i][column + j]; },
                [&](int i, real x) { room.of_rows[kQuery][row + i][column / 32] = x; });
  put_keys(at, sums, row, column, chunk.tokens, dq + at.query(chunk.token));
}
template <int Parts, class F>
__device__ __forceinline__ void return_keys(const Place<F>& at, const Chunk& chunk, int row,
                                            int column, BackwardRoom<F>& room, real* dk) {
  const Scalars& of = room.scalars;
  const auto key = [&](int i, int j) { return room.k[row + i][column + j]; };
  const auto to = [&](OfRow kind) {
    return
        [&room, row, column, kind](int i, real x) { room.of_rows[kind][row + i][column / 32] = x; };
  };
  // What the key wrote: R, read by the state that leaves, by queries and by later keys.
  WarpTile<Parts> written;
  written.add(at.padded, along(room.R, row), along(room.Z, column));
  written.scale([&](int i) { return of.left[row + i]; });
  written.row_sums(key, to(kLeaving));
  written.add(kSteps, across(room.P, row), across(room.q, column));
  written.add(kSteps, across(room.T, row), across(room.k, column));
  written.row_sums(key, to(kWrittenKey));
  // What it read: the state that enters, and earlier keys.
  WarpTile<Parts> read;
  read.add(at.padded, along(room.X, row), along(room.S, column));
  read.scale([&](int i) { return -of.beta[row + i] * of.gain[row + i]; });
  read.add(kSteps, along(room.T, row), across(room.k, column));
  read.row_sums(key, to(kReadKey));
  written += read;
  put_keys(at, written, row, column, chunk.steps, dk + at.key(chunk.token * at.args.n));
}

// dv = beta X, dbeta = e . X.
template <class F>
__device__ __forceinline__ void return_values(const Place<F>& at, const DeltaRuleBackward& args,
                                              const Chunk& chunk, const BackwardRoom<F>& room,
                                              real* dbeta) {
  const int64_t first = chunk.token * args.n;
  real* const dv = args.dv + at.value(first);
  for (int row = warp_of(); row < chunk.steps; row += room.kWarps) {
    real total = 0;
    for (int column = lane_of(); column < at.padded; column += kWarp) {
      const real x = room.X[row][column];
      total += room.e[row][column] * x;
      if (column < at.columns) dv[row * args.HV * args.V + column] = room.scalars.beta[row] * x;
    }
    total = warp_sum(total);
    if (lane_of() == 0) dbeta[at.step(first + row)] = total;
  }
}

// Z <- that of the state that enters the chunk; <S, Z> on the way.
template <int Parts, class F>
__device__ __forceinline__ void return_state(const Place<F>& at, BackwardRoom<F>& room) {
  const Scalars& of = room.scalars;
  const int tiles = at.padded / 32;
  real both = 0;
  for (int tile = warp_of(); tile < at.plan.keys / 16 * tiles; tile += room.kWarps) {
    WarpTile<Parts> sums;
    const int row = tile / tiles * 16, column = tile % tiles * 32;
    sums.add(
        kSteps, [&](int i, int l) { return room.q[l][row + i] * of.token_gain[l]; },
        across(room.d_o, column));
    sums.add(
        kSteps, [&](int i, int l) { return -(room.k[l][row + i] * of.gain[l] * of.beta[l]); },
        across(room.X, column));
    sums.give([&](int i, int j, real x) {
      real& Z = room.Z[row + i][column + j];
      both += Z * room.S[row + i][column + j];
      Z = of.gain_of_chunk * Z + x;
    });
  }
  both = warp_sum(both);
  if (lane_of() == 0) room.of_states[warp_of()] = both;
}

// dg of a token is the sum of dG from there to the chunk's end; lanes have a token. dG is q . dq + k .
// (the dk of reading - that of writing), as a query and a reading key come with exp(G) and a writing
// one with exp(-G); and the state that leaves comes with exp(G_end).
template <class F>
__device__ __forceinline__ void return_gates(const Place<F>& at, const Chunk& chunk,
                                             const BackwardRoom<F>& room, real* dg) {
  const int lane = lane_of(), n = static_cast<int>(at.args.n), tiles = at.plan.keys / 32;
  const auto row_of = [&](OfRow kind, int row) {
    real total = 0;
    for (int i = 0; i < tiles; ++i) total += room.of_rows[kind][row][i];
    return total;
  };
  real end = lane < room.kWarps ? room.of_states[lane] * room.scalars.gain_of_chunk : real(0);
  end = warp_sum(end + row_of(kLeaving, lane));
  real sum = lane < chunk.tokens ? row_of(kQuery, lane) : real(0);
  if (lane < chunk.tokens)
    for (int step = lane * n; step < (lane + 1) * n; ++step)
      sum += row_of(kReadKey, step) - row_of(kWrittenKey, step);
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const real behind = __shfl_down_sync(kAllLanes, sum, distance);
    if (lane + distance < kWarp) sum += behind;
  }
  if (lane < chunk.tokens) dg[at.token(chunk.token + lane)] = end + sum;
}

template <int Parts, class F>
__global__ void __launch_bounds__(BackwardRoom<F>::kWarps* kWarp,
                                  sizeof(BackwardRoom<F>) <= kLeastBlockBytes ? 2 : 1)
    delta_rule_backward_kernel(const DeltaRuleBackward args, const Plan plan) {
  auto& room = shared_room<BackwardRoom<F>>();
  const Place<F> at(args, plan);
  const Gradients<F> to(at, args);
  fetch_matrix(at, room.Z, args.dstate, at.state());
#pragma unroll 1
  for (int64_t number = plan.chunks - 1; number >= 0; --number) {
    const Chunk chunk(args, plan, number);
    fetch_chunk(at, args, chunk, room);
    __syncthreads();
    read_keys<Parts>(at, room);
    __syncthreads();
    solve<Parts>(at, room);
    return_squares<Parts>(at, room);
    __syncthreads();
    const int tiles = plan.keys / 32;
    for (int tile = warp_of(); tile < 4 * tiles; tile += room.kWarps) {
      const int row = tile % 2 * 16, column = tile / 2 % tiles * 32;
      if (tile < 2 * tiles)
        return_keys<Parts>(at, chunk, row, column, room, to.dk);
      else
        return_queries<Parts>(at, chunk, row, column, room, to.dq);
    }
    return_values(at, args, chunk, room, to.dbeta);
    __syncthreads();
    return_state<Parts>(at, room);
    __syncthreads();
    if (to.dg != nullptr && warp_of() == 0) return_gates(at, chunk, room, to.dg);
    __syncthreads();
  }
  commit_async();
  wait_async<0>();
  __syncthreads();
  if (args.dentering != nullptr) store_matrix(at, room.Z, args.dentering + at.state());
}

// to <- the sum of `shares` arrays of `count` numbers.
void add_shares(Cuda cuda, const real* x, int64_t shares, int64_t count, real* to) {
  for_each(cuda, "delta_rule_shares", count, [=] __device__(int64_t i) {
    real sum = x[i];
    for (int64_t share = 1; share < shares; ++share) sum += x[share * count + i];
    to[i] = sum;
  });
}

template <class F>
void run_chunks(Cuda cuda, const DeltaRuleBackward& args) {
  const Plan plan = plan_of<F>(args);
  const int64_t tokens = args.B * args.T, shares = args.HV / args.H * plan.tiles;
  DeltaRuleBackward apart = args;
  struct Shared {
    real *to, **place;
    int64_t shares, count;
    Tensor space = {};
  };
  Shared all[]{{args.dq, &apart.dq, shares, tokens * args.H * args.K},
               {args.dk, &apart.dk, shares, tokens * args.n * args.H * args.K},
               {args.dbeta, &apart.dbeta, plan.tiles, tokens * args.n * args.HV},
               {args.dg, &apart.dg, plan.tiles, tokens * args.HV}};
  for (Shared& x : all) {
    if (x.shares == 1 || x.to == nullptr) continue;
    x.space = Tensor(cuda.context, Shape{x.shares, x.count});
    *x.place = x.space.data();
  }
  const bool fp32 = args.exact || gpu(cuda).matmul_precision == MatmulPrecision::fp32;
  start(cuda, "delta_rule_backward",
        fp32 ? delta_rule_backward_kernel<3, F> : delta_rule_backward_kernel<1, F>,
        {.blocks = args.B * args.HV * plan.tiles,
         .threads = BackwardRoom<F>::kWarps * kWarp,
         .shared_bytes = sizeof(BackwardRoom<F>)},
        apart, plan);
  for (const Shared& x : all)
    if (x.space.defined()) add_shares(cuda, x.space.data(), x.shares, x.count, x.to);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda cuda, const DeltaRuleForward& args) {
  const int64_t room =
      args.K <= Usual::kKeys ? sizeof(BackwardRoom<Narrow>) : sizeof(BackwardRoom<Long>);
  return !kDouble && args.n <= kDeltaRuleSteps && args.K <= Long::kKeys &&
         gpu(cuda).forms.fit(room);
}

void run(Cuda cuda, const DeltaRuleBackward& args) {
  if (args.K > Usual::kKeys)
    run_chunks<Long>(cuda, args);
  else if (args.V > Narrow::kColumns && gpu(cuda).forms.fit(sizeof(BackwardRoom<Usual>)))
    run_chunks<Usual>(cuda, args);
  else
    run_chunks<Narrow>(cuda, args);
}

}  // namespace fprnn
