// The state from chunk to chunk: forward C and n, which each chunk finds before it, and backward their
// cotangents Z and zeta, which it finds behind it. A block has 64 rows and 64 columns of a head's matrix in
// registers; two chunks' rows take turns in shared memory. The blocks of the first columns have the
// vector too, which the last two warps keep.
#pragma once

#include <fprnn/cuda/mlstm.cuh>

namespace fprnn::cuda::mlstm_chunks {

struct alignas(16) StatesRoom {
  real keys[2][kSteps][kTile + 8], values[2][kSteps][kTile + 8];  // backward of q and dh
  Gates gates[2];
};
static_assert(kDouble || sizeof(StatesRoom) <= kLeastBlockBytes);

template <bool kBack>
struct States {
  static constexpr int kVector = kThreads - kTile;  // its first thread
  const Head at;
  StatesRoom& room;
  const int64_t tile;
  const int rows, columns;            // of the warp
  const int first_row, first_column;  // of the block
  const int row_of_vector;            // the thread's own, or -1
  float c[2][2][4];
  real n;

  __device__ __forceinline__ States(const Work& work, StatesRoom& room)
      : at(work, blockIdx.x / (work.tiles * work.tiles)),
        room(room),
        tile(blockIdx.x % (work.tiles * work.tiles)),
        rows(static_cast<int>(threadIdx.x) / kWarp % 2 * 32),
        columns(static_cast<int>(threadIdx.x) / kWarp / 2 * 16),
        first_row(static_cast<int>(tile / work.tiles) * kTile),
        first_column(static_cast<int>(tile % work.tiles) * kTile),
        row_of_vector(vector_row()) {}
  __device__ __forceinline__ int vector_row() const {
    const int i = static_cast<int>(threadIdx.x) - kVector;
    return i >= 0 && first_column == 0 && first_row + i < at.args.d ? first_row + i : -1;
  }

  using Tile = float[2][2][4];

  // visit(matrix's row, first column of a pair, its two numbers in the lane's part of a tile)
  template <class Visit>
  __device__ __forceinline__ void each(Tile& tile, const Visit& visit) const {
    each_pair<2, 2>([&](int m, int n, int half, int i, int j) {
      const int row = first_row + rows + i;
      if (row < at.args.d)
        visit(row, first_column + columns + j, tile[m][n][2 * half], tile[m][n][2 * half + 1]);
    });
  }
  // Zeros for null.
  __device__ __forceinline__ void load(const real* matrix, Tile& to) const {
    unrolled<2>(
        [&](int m) { unrolled<2>([&](int n) { unrolled<4>([&](int i) { to[m][n][i] = 0; }); }); });
    if (matrix != nullptr)
      each(to, [&](int i, int j, float& x, float& y) {
        const Two two = load_two(matrix + i * at.args.d, j, at.args.d, at.work.pairs);
        x = static_cast<float>(two.v[0]);
        y = static_cast<float>(two.v[1]);
      });
  }
  __device__ __forceinline__ real load(const real* vector) const {
    return vector != nullptr && row_of_vector >= 0 ? vector[row_of_vector] : real(0);
  }
  __device__ __forceinline__ void store(real* matrix, real* vector) {
    each(c, [&](int i, int j, float x, float y) {
      store_two(matrix + i * at.args.d, j, at.args.d, at.work.pairs, real(x), real(y));
    });
    if (row_of_vector >= 0) vector[row_of_vector] = n;
  }
  // The warp's part of <matrix, own> + vector . own, at a chunk's boundary.
  __device__ __forceinline__ void put_flow(int64_t boundary, const Tile& matrix,
                                           real vector) const {
    real sum = vector * n;
    unrolled<2>([&](int m) {
      unrolled<2>([&](int k) {
        unrolled<4>([&](int i) { sum += real(matrix[m][k][i]) * real(c[m][k][i]); });
      });
    });
    sum = warp_sum(sum);
    if (lane_of() == 0)
      at.work.flows[(at.unit * (at.work.chunks + 1) + boundary) * parts_of_flow(at.work) +
                    tile * kWarps + static_cast<int>(threadIdx.x) / kWarp] = sum;
  }

  __device__ __forceinline__ void fetch(int64_t chunk, int stage) {
    const int64_t begin = chunk * kSteps, from = at.row(begin);
    const real* const keys = kBack ? at.args.q : at.args.k;
    const real* const values = kBack ? at.args.dh : at.args.v;
    fetch_rows<kSteps, kTile, kThreads>(keys + from + first_row, at.stride(), at.count(begin),
                                        at.args.d - first_row, at.work.quads, room.keys[stage][0]);
    fetch_rows<kSteps, kTile, kThreads>(values + from + first_column, at.stride(), at.count(begin),
                                        at.args.d - first_column, at.work.quads,
                                        room.values[stage][0]);
    commit_async();
  }
  // Through a chunk.
  template <bool kExact>
  __device__ __forceinline__ void advance(int stage) {
    const Gates& gates = room.gates[stage];
    const real left = gates.left[kSteps - 1];
    unrolled<2>([&](int m) {
      unrolled<2>(
          [&](int n) { unrolled<4>([&](int i) { c[m][n][i] *= static_cast<float>(left); }); });
    });
    constexpr int kStride = kTile + 8;
    add_product<kExact>(
        c, 0, kSteps / 8,
        WeightedDown{{&room.keys[stage][0][rows], kStride}, kBack ? gates.enter : gates.out},
        Down{&room.values[stage][0][columns], kStride});
    if (row_of_vector < 0) return;
    const real* const keys = &room.keys[stage][0][row_of_vector - first_row];
    real sums[4]{};
#pragma unroll 4
    for (int s = 0; s < kSteps; s += 4)
      unrolled<4>([&](int i) {
        const real weight = kBack ? gates.left[s + i] * gates.read[s + i] : gates.out[s + i];
        sums[i] += weight * keys[(s + i) * kStride];
      });
    n = left * n + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
};

template <bool kBack, bool kExact>
__global__ void __launch_bounds__(kThreads, 2) mlstm_states_kernel(const Work work) {
  auto& room = shared_room<StatesRoom>();
  States<kBack> states(work, room);
  const Head& at = states.at;
  const MlstmBackward& args = work.args;
  const bool first_warp = threadIdx.x < kWarp;
  const auto chunk_of = [&](int64_t i) { return kBack ? work.chunks - 1 - i : i; };
  typename States<kBack>::Tile entering;
  const bool given = args.dc != nullptr || args.dn != nullptr;
  if constexpr (kBack) {
    states.load(args.dc == nullptr ? nullptr : args.dc + at.matrix(), states.c);
    states.n = states.load(args.dn == nullptr ? nullptr : args.dn + at.vector());
    states.load(given ? args.c + at.matrix() : nullptr, entering);
    states.put_flow(work.chunks, entering, states.load(given ? args.n + at.vector() : nullptr));
  } else {
    states.load(at.c(0), states.c);
    states.n = states.load(at.n(0));
  }
  if (work.chunks > 0) {
    states.fetch(chunk_of(0), 0);
    if (first_warp) make_gates<kBack>(at, chunk_of(0) * kSteps, room.gates[0]);
  }
#pragma unroll 1
  for (int64_t i = 0; i < work.chunks; ++i) {
    const int stage = static_cast<int>(i % 2);
    const int64_t chunk = chunk_of(i);
    const bool more = i + 1 < work.chunks;
    wait_async<0>();
    __syncthreads();  // this stage is there, and all are done with the other
    if (more) states.fetch(chunk_of(i + 1), stage ^ 1);
    if (kBack || i > 0) {
      real* const to = (kBack ? work.cotangents : args.checkpoints) + at.kept(chunk);
      states.store(to, to + args.d * args.d);
    }
    real of_vector = 0;
    if constexpr (kBack) {
      states.load(at.c(chunk), entering);
      of_vector = states.load(at.n(chunk));
    }
    states.template advance<kExact>(stage);
    if constexpr (kBack) states.put_flow(chunk, entering, of_vector);
    if (more && first_warp) make_gates<kBack>(at, chunk_of(i + 1) * kSteps, room.gates[stage ^ 1]);
  }
  if constexpr (!kBack)
    states.store(args.c + at.matrix(), args.n + at.vector());
  else if (args.dc0 != nullptr)
    states.store(args.dc0 + at.matrix(), args.dn0 + at.vector());
}

template <bool kBack>
void run_states(Cuda cuda, std::string_view name, const Work& work, bool exact) {
  start(cuda, name, exact ? mlstm_states_kernel<kBack, true> : mlstm_states_kernel<kBack, false>,
        {.blocks = work.args.B * work.args.H * work.tiles * work.tiles,
         .threads = kThreads,
         .shared_bytes = sizeof(StatesRoom)},
        work);
}

}  // namespace fprnn::cuda::mlstm_chunks
