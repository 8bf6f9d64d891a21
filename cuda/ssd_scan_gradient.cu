// The gradient of the SSD scan (ops/ssd_scan.md), chunks from the last to the first. A block takes a head of a
// sequence, with the cotangent Z of the state in shared memory; what forward kept of the states comes from
// memory as a factor. Warps divide products as forward does: (steps, channels) and weights by tiles, those
// of steps and states by states. Heads leave shares of db and dc (cuda/shares.cuh).
#include <fprnn/cuda/shares.cuh>
#include <fprnn/cuda/ssd_scan.cuh>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kSsdWarps = kSsdThreads / kWarp;

template <int N>
struct alignas(16) SsdBackwardRoom {
  // Of a warp's part of the states in products with steps.
  static constexpr int kTiles = N >= 64 ? N / 64 : 1, kSlices = N / (8 * kTiles);
  static_assert(kSlices <= kSsdWarps && kSlices * kTiles * 8 == N);

  real b[kSteps][N + 8], c[kSteps][N + 8];
  real z[kChannels][N + 8];
  real x[kSteps][kChannelStride], dy[kSteps][kChannelStride];
  real weights[kSteps][kStepStride];
  real dscores[kSteps][kStepStride];  // the cotangent of c_t . b_s
  real through_c[kSlices][kSteps];    // what slices give to dl_t by way of S c_t
  real zs[kSsdWarps];                 // <Z, S>
  // Not in registers, of which there are too few: the head's skip; of the first warp's lanes, the
  // slope of the chunk's dt, and the sums so far of da and ddt_bias.
  real skip[kChannels], slope[kSteps], da[kSteps], dbias[kSteps];
};
// What warps give to dl_t, and to ddt_s by way of W and of S'.
struct SsdSums {
  real rows[4][kSteps], columns[2][kSteps], leaving[4][kSteps];
};
static_assert(kDouble || sizeof(SsdBackwardRoom<kSsdGpuStates>) <= kLeastBlockBytes);
static_assert(kDouble || sizeof(SsdSums) + sizeof(SsdSteps) <= kStaticBytes);

// Sums over the four lanes that share a row, and over the eight that share a column.
__device__ __forceinline__ real sum_row(real x) { return warp_sum<4>(x); }
__device__ __forceinline__ real sum_column(real x) {
#pragma unroll
  for (int distance = 4; distance < kWarp; distance *= 2)
    x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}

// One block's way through its chunks. What it writes of args are shares.
template <int N, bool kExact>
struct SsdBack {
  using Room = SsdBackwardRoom<N>;
  static constexpr int kTiles = Room::kTiles;
  const SsdBlock& at;
  const SsdScanBackward& args;
  Room& room;
  SsdSums& sums;
  SsdSteps& steps;
  int half, channels,
      columns;  // of the warp's tiles: first step, channel, and step s of the weights
  real dskip[2][2] = {};

  __device__ SsdBack(const SsdBlock& at, const SsdScanBackward& args, Room& room, SsdSums& sums,
                     SsdSteps& steps)
      : at(at),
        args(args),
        room(room),
        sums(sums),
        steps(steps),
        half(at.warp % 2 * 16),
        channels(at.warp / 2 * 16),
        columns(at.warp / 2 * 8) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kChannels) room.skip[thread] = at.skip(thread);
    if (thread < kSteps) room.da[thread] = room.dbias[thread] = 0;
  }

  __device__ __forceinline__ void fetch(int64_t begin, int64_t count, const real* state) {
    fetch_channels(at, at.args.x, begin, count, room.x[0]);
    fetch_channels(at, args.dy, begin, count, room.dy[0]);
    fetch_directions<N>(at, at.args.b, begin, count, room.b[0]);
    fetch_directions<N>(at, at.args.c, begin, count, room.c[0]);
    commit_async();
    prefetch_channels(at, at.args.x, begin - kSteps);
    prefetch_channels(at, args.dy, begin - kSteps);
    const int64_t first = int64_t{threadIdx.x} * (128 / sizeof(real));
    if (state != nullptr && first < at.args.P * at.args.N) prefetch(state + first);
  }

  // The warp's tile of W and of d(c . b), and its sums.
  __device__ __forceinline__ void through_weights() {
    float score[1][1][4]{}, d[1][1][4]{};
    if (columns < half + 16) {
      add_product<kExact>(score, 0, N / 8, Along<true>{room.c[half], N + 8},
                          Along<true>{room.b[columns], N + 8});
      add_product<kExact>(d, 0, kChannels / 8, Along<true>{room.dy[half], kChannelStride},
                          Along<true>{room.x[columns], kChannelStride});
    }
    real of_row[2]{}, of_column[2]{};
    each_pair<1, 1>([&](int, int, int side, int i, int j) {
      Two weight, dscore;
      unrolled<2>([&](int k) {
        const int t = half + i, s = columns + j + k;
        const real left = decay_between(steps, t, s), dt = steps.dt[s];
        const real g = score[0][0][2 * side + k], of_d = d[0][0][2 * side + k];
        weight.v[k] = g * (left * dt);
        dscore.v[k] = of_d * (left * dt);
        const real ddt = of_d * (g * left);
        of_row[side] += ddt * dt;
        of_column[k] += ddt;
      });
      *reinterpret_cast<Two*>(&room.weights[half + i][columns + j]) = weight;
      *reinterpret_cast<Two*>(&room.dscores[half + i][columns + j]) = dscore;
    });
    const int g = lane_of() / 4, t = lane_of() % 4;
    unrolled<2>([&](int k) {
      const real row = sum_row(of_row[k]), column = sum_column(of_column[k]);
      if (t == 0) sums.rows[columns / 8][half + 8 * k + g] = row;
      if (g == 0) sums.columns[half / 16][columns + 2 * t + k] = column;
    });
  }

  // dx (16 steps, 16 channels) of what goes through the state that leaves.
  __device__ __forceinline__ void through_leaving(bool has_z, float (&dx)[1][2][4]) {
    if (has_z && channels < at.args.P)
      add_product<kExact>(dx, 0, N / 8, Along<true>{room.b[half], N + 8},
                          Along<true>{room.z[channels], N + 8});
    real of_row[2]{};
    each_pair<1, 2>([&](int, int n, int side, int i, int j) {
      const int s = half + i;
      unrolled<2>([&](int k) {
        float& own = dx[0][n][2 * side + k];
        of_row[side] += room.x[s][channels + j + k] * own;
        own *= static_cast<float>(steps.weight[s]);
      });
    });
    unrolled<2>([&](int side) {
      const int s = half + 8 * side + lane_of() / 4;
      const real row = sum_row(of_row[side]);
      if (lane_of() % 4 == 0) sums.leaving[channels / 16][s] = steps.out[s] * row;
    });
  }

  __device__ __forceinline__ void store_dx(int64_t begin, int count, float (&dx)[1][2][4]) {
    if (channels >= at.args.P) return;
    add_product<kExact>(dx, half / 8, kSteps / 8, Down{&room.weights[0][half], kStepStride},
                        Down{&room.dy[0][channels], kChannelStride});
    each_pair<1, 2>([&](int, int n, int side, int i, int j) {
      const int s = half + i, p = channels + j;
      Two own;
      unrolled<2>([&](int k) {
        const real dy = room.dy[s][p + k];
        own.v[k] = dx[0][n][2 * side + k] + room.skip[p + k] * dy;
        dskip[n][k] += dy * room.x[s][p + k];
      });
      if (s < count)
        store_two(args.dx + at.step(begin + s) * at.args.P, p, at.args.P, at.plan.channel_pairs,
                  own.v[0], own.v[1]);
    });
  }

  // The state that enters, (channels, states), as a factor; and <Z, S> on the way.
  struct Entering {
    const real* state;
    const real* z;
    int64_t P, N_of;
    int column;
    real& zs;
    __device__ __forceinline__ Two get(int tile, int i, int step) const {
      const int n = column + tile + i, first = step * 8 + lane_of() % 4;
      Two two;
      unrolled<2>([&](int k) {
        const int p = first + 4 * k;
        two.v[k] = p < P && n < N_of ? state[p * N_of + n] : real(0);
        zs += two.v[k] * z[p * (N + 8) + n];
      });
      return two;
    }
  };

  __device__ __forceinline__ void store_direction(int64_t begin, int count, int column,
                                                  const float (&sums)[2][kTiles][4], real* to) {
    each_pair<2, kTiles>([&](int m, int n, int side, int i, int j) {
      if (i < count)
        store_two(to + at.step(begin + i) * at.args.N, column + j, at.args.N, at.plan.state_pairs,
                  sums[m][n][2 * side], sums[m][n][2 * side + 1]);
    });
  }

  __device__ __forceinline__ void make_dc(int64_t begin, int count, const real* state) {
    const int column = at.warp * kTiles * 8, channel_steps = static_cast<int>(at.args.P + 7) / 8;
    float dc[2][kTiles][4]{};
    real zs = 0;
    if (state != nullptr)
      add_product<kExact>(dc, 0, channel_steps, Along<false>{room.dy[0], kChannelStride},
                          Entering{state, room.z[0], at.args.P, at.args.N, column, zs});
    real of_row[2][2]{};
    each_pair<2, kTiles>([&](int m, int n, int side, int i, int j) {
      unrolled<2>([&](int k) {
        float& own = dc[m][n][2 * side + k];
        own *= static_cast<float>(steps.in[i]);
        of_row[m][side] += own * room.c[i][column + j + k];
      });
    });
    unrolled<2>([&](int m) {
      unrolled<2>([&](int side) {
        const real row = sum_row(of_row[m][side]);
        if (lane_of() % 4 == 0) room.through_c[at.warp][16 * m + 8 * side + lane_of() / 4] = row;
      });
    });
    zs = warp_sum(zs);
    if (lane_of() == 0) room.zs[at.warp] = zs;
    add_product<kExact>(dc, 0, kSteps / 8, Along<false>{room.dscores[0], kStepStride},
                        Down{&room.b[0][column], N + 8});
    store_direction(begin, count, column, dc, args.dc);
  }

  __device__ __forceinline__ void make_db(int64_t begin, int count, bool has_z) {
    const int column = at.warp * kTiles * 8, channel_steps = static_cast<int>(at.args.P + 7) / 8;
    float db[2][kTiles][4]{};
    if (has_z)
      add_product<kExact>(db, 0, channel_steps, Along<false>{room.x[0], kChannelStride},
                          Down{&room.z[0][column], N + 8});
    each_pair<2, kTiles>([&](int m, int n, int side, int i, int) {
      unrolled<2>([&](int k) { db[m][n][2 * side + k] *= static_cast<float>(steps.weight[i]); });
    });
    add_product<kExact>(db, 0, kSteps / 8, Down{room.dscores[0], kStepStride},
                        Down{&room.c[0][column], N + 8});
    store_direction(begin, count, column, db, args.db);
  }

  // What a step's size and decay get, of which the lane of one warp has one.
  __device__ __forceinline__ void finish_steps(int64_t begin, int count) {
    const int lane = lane_of();
    real leaving = 0, row = 0, zs = 0;
    unrolled<4>([&](int i) { leaving += sums.leaving[i][lane]; });
    unrolled<4>([&](int i) { row += sums.rows[i][lane]; });
    unrolled<Room::kSlices>([&](int i) {
      row += room.through_c[i][lane];
      zs += room.zs[i];
    });
    const real ddt = sums.columns[0][lane] + sums.columns[1][lane] + leaving, dt = steps.dt[lane];
    real dl = row - dt * ddt;
    const real of_last = steps.decay() * zs + warp_sum(dt * leaving);
    if (lane == kWarp - 1) dl += of_last;
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const real after = __shfl_down_sync(kAllLanes, dl, distance);
      if (lane + distance < kWarp) dl += after;
    }
    if (lane >= count) return;
    const real raw = (dl * at.args.a[at.h] + ddt) * room.slope[lane];
    args.ddt[at.step(begin + lane)] = raw;
    room.da[lane] += dl * dt;
    room.dbias[lane] += raw;
  }

  __device__ __forceinline__ void chunk(int64_t number) {
    const int64_t begin = number * kSteps;
    const int count = at.count(begin);
    const real* const h0 = at.args.h0 == nullptr ? nullptr : at.args.h0 + at.state();
    const real* const state = number == 0 ? h0 : at.checkpoint(number);
    const bool has_z = args.dstate != nullptr || number + 1 < at.plan.chunks;
    fetch(begin, count, state);
    if (at.warp == 0) room.slope[lane_of()] = make_ssd_steps(at, begin, steps);
    wait_async<0>();
    __syncthreads();
    through_weights();
    float dx[1][2][4]{};
    through_leaving(has_z, dx);
    __syncthreads();
    store_dx(begin, count, dx);
    if (at.warp < Room::kSlices) {
      make_dc(begin, count, state);
      make_db(begin, count, has_z);
    }
    __syncthreads();
    if (at.warp == 0) finish_steps(begin, count);
    if (number > 0 || args.dh0 != nullptr)
      update_state<N, kExact>(at, steps, room.dy[0], steps.in, room.c[0], room.z[0],
                              [](int, int, const Two&) {});
    __syncthreads();
  }

  // What a block leaves of its head's parameters.
  __device__ __forceinline__ void finish() {
    real* const parts = room.x[0];  // (halves of a chunk, channels)
    static_assert(sizeof(room.x) >= 2 * kChannels * sizeof(real));
    each_pair<1, 2>([&](int, int n, int side, int, int j) {
      if (side > 0) return;
      unrolled<2>([&](int k) {
        const real sum = sum_column(dskip[n][k]);
        if (lane_of() / 4 == 0) parts[half / 16 * kChannels + channels + j + k] = sum;
      });
    });
    __syncthreads();
    const int64_t head = blockIdx.x;
    const int p = static_cast<int>(threadIdx.x);
    if (p < at.args.P) args.dskip[head * at.args.P + p] = parts[p] + parts[kChannels + p];
    if (p >= kWarp) return;
    const real da = warp_sum(room.da[p]), dbias = warp_sum(room.dbias[p]);
    if (p > 0) return;
    args.da[head] = da;
    args.ddt_bias[head] = dbias;
  }
};

template <int N, bool kExact>
__global__ void __launch_bounds__(kSsdThreads, 2)
    ssd_scan_backward_kernel(const SsdScanBackward args, const SsdPlan plan) {
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ SsdSums sums;
  __shared__ SsdSteps steps;
  auto& room = *reinterpret_cast<SsdBackwardRoom<N>*>(shared);
  const SsdBlock at(args.forward, plan);
  SsdBack<N, kExact> back(at, args, room, sums, steps);
  load_state<N>(at, args.dstate, room.z[0]);
#pragma unroll 1
  for (int64_t number = plan.chunks - 1; number >= 0; --number) back.chunk(number);
  if (args.dh0 != nullptr) store_state<N>(at, room.z[0], args.dh0);
  back.finish();
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const SsdScanBackward& args) {
  const SsdScanForward& in = args.forward;
  const Shares db(cuda, args.db, in.B * in.T * in.G, in.H / in.G, in.N);
  const Shares dc(cuda, args.dc, db.outer, db.middle, in.N);
  const Shares da(cuda, args.da, 1, in.B, in.H), dbias(cuda, args.ddt_bias, 1, in.B, in.H);
  const Shares dskip(cuda, args.dskip, 1, in.B, in.H * in.P);
  SsdScanBackward shares = args;
  shares.db = db.data();
  shares.dc = dc.data();
  shares.da = da.data();
  shares.ddt_bias = dbias.data();
  shares.dskip = dskip.data();
  const SsdPlan plan =
      plan_ssd(in, quads_aligned(args.dy, args.dx), quads_aligned(shares.db, shares.dc));
  with_ssd_kernel(cuda, in, [&](auto states, auto exact) {
    start(cuda, "ssd_scan_backward", ssd_scan_backward_kernel<states(), exact()>,
          {.blocks = in.B * in.H,
           .threads = kSsdThreads,
           .shared_bytes = sizeof(SsdBackwardRoom<states()>)},
          shares, plan);
  });
  add_shares(cuda, {&db, &dc, &da, &dbias, &dskip});
}

}  // namespace fprnn
