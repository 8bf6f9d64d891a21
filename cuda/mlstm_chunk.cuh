// Inside a chunk, all chunks at once. A block has a chunk of a head and makes one of four things of it, each by
// the same three products: a square of scores between steps, the state's part, and the square times rows.
//
//   of           square, s <= t                      state's part                  rows
//   h            exp(X) q . k / sqrt(d)              b_t C^T q_t                   v
//   dq           exp(X) (dnum . v + dr) / sqrt(d)    b_t (C dnum_t + dr_t n)       k
//   dk           as dq, turned                       w_s (Z v_s + zeta)            q
//   dv           as h times 1 / g_t, turned          w_s Z^T k_s                   dh
//
// with dnum_t = dh_t / g_t. Shared memory has room for two sets of rows: both factors of the square; then
// the one that meets the state stays, and the state's matrix and the rows come in the other's place.
#pragma once

#include <fprnn/cuda/mlstm.cuh>

namespace fprnn::cuda::mlstm_chunks {

enum class Of { h, dq, dk, dv };

template <int D>
struct alignas(16) ChunkRoom {
  static constexpr int kStride = D + 8;
  static constexpr int kDeepStride = kTile + 8;  // of all rows of a matrix, kTile of its columns
  static constexpr int kReals =
      kSteps * kStride > D* kDeepStride ? kSteps* kStride : D* kDeepStride;
  alignas(16) real later[kReals], earlier[kReals];  // rows of t and of s
  real square[kSteps][kSteps + 4];
  real sums[4][kSteps];  // what warps have of sums over columns
  real vector[D];        // n or zeta
  Gates gates;
};
inline constexpr int kWidest = kMlstmGpuWidth;
static_assert(kDouble || sizeof(ChunkRoom<kWidest>) <= kLeastBlockBytes);

template <Of kOf, int D, bool kExact>
struct ChunkBlock {
  using Room = ChunkRoom<D>;
  static constexpr bool kBack = kOf != Of::h;
  static constexpr bool kOfKeys = kOf == Of::h || kOf == Of::dv;   // the square
  static constexpr bool kTurned = kOf == Of::dk || kOf == Of::dv;  // rows of the result are of s
  static constexpr bool kAlong =
      kOf == Of::dq || kOf == Of::dk;  // sums go over columns of the state
  static constexpr int kTiles = D / 32, kStride = Room::kStride, kSquareStride = kSteps + 4;
  using Result = float[2][kTiles][4];

  const Head at;
  const MlstmBackward& args;
  Room& room;
  const int64_t chunk, begin;
  const int count, rows,
      part;  // of steps; the warp's first row, and which quarter of the columns it has

  __device__ __forceinline__ ChunkBlock(const Work& work, int64_t block, Room& room)
      : at(work, block / work.chunks),
        args(at.args),
        room(room),
        chunk(block % work.chunks),
        begin(chunk * kSteps),
        count(at.count(begin)),
        rows(static_cast<int>(threadIdx.x) / kWarp % 2 * 32),
        part(static_cast<int>(threadIdx.x) / kWarp / 2) {}

  // The state's matrix and vector that are met, or null.
  __device__ __forceinline__ const real* matrix() const {
    if constexpr (!kTurned) return at.c(chunk);
    const bool left = chunk + 1 < at.work.chunks || args.dc != nullptr || args.dn != nullptr;
    return left ? at.work.cotangents + at.kept(chunk) : nullptr;
  }
  __device__ __forceinline__ const real* vector() const {
    if constexpr (!kTurned) return at.n(chunk);
    const real* const z = matrix();
    return z == nullptr ? nullptr : z + args.d * args.d;
  }
  __device__ __forceinline__ void fetch(const real* from, real* to) const {
    fetch_rows<kSteps, D, kThreads>(from + at.row(begin), at.stride(), count, args.d, at.work.quads,
                                    to);
  }
  __device__ __forceinline__ void arrive() const {
    commit_async();
    wait_async<0>();
    __syncthreads();
  }

  __device__ __forceinline__ void begin_chunk() const {
    fetch(kOfKeys ? args.q : args.dh, room.later);
    fetch(kOfKeys ? args.k : args.v, room.earlier);
    const real* const n = vector();
    const int i = static_cast<int>(threadIdx.x);
    if (i < D) room.vector[i] = n != nullptr && i < args.d ? n[i] : real(0);
    if (i < kWarp) make_gates<kBack>(at, begin, room.gates);
    arrive();
  }
  // The warp's tile of the square, and of h its rows' sums.
  __device__ __forceinline__ void make_square() const {
    const int columns = part * 16;
    float scores[2][2][4]{};
    if (columns < rows + 32 && rows < count)
      add_product<kExact>(scores, 0, D / 8, Along<true>{room.later + rows * kStride, kStride},
                          Along<true>{room.earlier + columns * kStride, kStride});
    const real unit = 1 / square_root(static_cast<real>(args.d));
    const Gates& gates = room.gates;
    real of_row[2][2]{};
    each_pair<2, 2>([&](int m, int n, int half, int i, int j) {
      const int t = rows + i;
      Two two;
      unrolled<2>([&](int k) {
        const int s = columns + j + k;
        real x = scores[m][n][2 * half + k];
        if constexpr (kBack) x *= gates.by[t];
        if constexpr (kAlong) x += gates.read[t];
        two.v[k] = s <= t ? x * (gates.between(t, s) * unit) : real(0);
        of_row[m][half] += two.v[k];
      });
      *reinterpret_cast<Two*>(&room.square[t][columns + j]) = two;
    });
    if constexpr (kOf == Of::h) put_sums(of_row);
  }
  // A row's sum over the lanes that share it, to the warp's part of `sums`.
  __device__ __forceinline__ void put_sums(const real (&of_row)[2][2]) const {
    unrolled<2>([&](int m) {
      unrolled<2>([&](int half) {
        const real sum = warp_sum<4>(of_row[m][half]);
        if (lane_of() % 4 == 0) room.sums[part][rows + 16 * m + 8 * half + lane_of() / 4] = sum;
      });
    });
  }
  __device__ __forceinline__ real sum_of(int row) const {
    return (room.sums[0][row] + room.sums[1][row]) + (room.sums[2][row] + room.sums[3][row]);
  }
  // b_t n . q_t, four threads a row.
  __device__ __forceinline__ void read_vector() const {
    const int t = static_cast<int>(threadIdx.x) / 4, first = static_cast<int>(threadIdx.x) % 4;
    real sum = 0;
#pragma unroll 8
    for (int j = first; j < D; j += 4) sum += room.later[t * kStride + j] * room.vector[j];
    sum = warp_sum<4>(sum);
    if (first == 0) room.gates.read[t] = room.gates.left[t] * sum;
  }
  // What divides h; what backward reads is kept.
  __device__ __forceinline__ void divide() const {
    const int t = static_cast<int>(threadIdx.x);
    if (t >= kSteps) return;
    const real r = sum_of(t) + room.gates.read[t];
    if (t >= count) return;
    const int64_t step = at.step(begin + t);
    room.gates.by[t] = Division(args.steps[step], r, 0, args.eps).by;
    at.reads()[step] = r;
  }

  // x times the state's matrix, a part of the sums at a time; `free` was read by all.
  __device__ __forceinline__ void meet_state(const real* matrix, const real* x, real* free,
                                             Result& result) const {
    const int columns = part * (D / 4);
    unrolled<D / kTile>([&](int piece) {
      const int from = piece * kTile;
      const int64_t left = args.d - from;
      if (piece > 0) __syncthreads();
      if constexpr (kAlong) {
        fetch_rows<D, kTile, kThreads>(matrix + from, args.d, args.d, left, at.work.quads, free);
        arrive();
        add_product<kExact>(result, 0, kTile / 8, Along<true>{x + rows * kStride + from, kStride},
                            Along<true>{free + columns * Room::kDeepStride, Room::kDeepStride});
      } else {
        fetch_rows<kSteps, D, kThreads>(matrix + from * args.d, args.d, left, args.d, at.work.quads,
                                        free);
        arrive();
        add_product<kExact>(result, 0, kTile / 8, Along<false>{x + rows * kStride + from, kStride},
                            Down{free + columns, kStride});
      }
    });
    each_pair<2, kTiles>([&](int m, int n, int half, int i, int j) {
      const int row = rows + i;
      const Gates& gates = room.gates;
      unrolled<2>([&](int k) {
        float& own = result[m][n][2 * half + k];
        const real of_vector = kAlong ? room.vector[columns + j + k] : real(0);
        if constexpr (kOf == Of::h) own *= static_cast<float>(gates.left[row]);
        if constexpr (kOf == Of::dq)
          own = static_cast<float>(gates.enter[row] * own +
                                   gates.left[row] * gates.read[row] * of_vector);
        if constexpr (kTurned) own = static_cast<float>(gates.out[row] * (own + of_vector));
      });
    });
    __syncthreads();
  }
  // The square, or turned, times the rows that have come.
  __device__ __forceinline__ void meet_rows(const real* y, Result& result) const {
    if (rows >= count) return;
    const Down of_y{y + part * (D / 4), kStride};
    if constexpr (kTurned)
      add_product<kExact>(result, rows / 8, kSteps / 8, Down{&room.square[0][rows], kSquareStride},
                          of_y);
    else
      add_product<kExact>(result, 0, rows / 8 + 4, Along<false>{room.square[rows], kSquareStride},
                          of_y);
  }
  __device__ __forceinline__ void store(const Result& result, real* to) const {
    real of_row[2][2]{};
    each_pair<2, kTiles>([&](int m, int n, int half, int i, int j) {
      const int row = rows + i, column = part * (D / 4) + j;
      if (row >= count) return;
      const int64_t offset = at.row(begin + row);
      const real by = kBack ? real(1) : room.gates.by[row];
      const real x = by * result[m][n][2 * half], y = by * result[m][n][2 * half + 1];
      store_two(to + offset, column, args.d, at.work.pairs, x, y);
      if constexpr (kOf == Of::dk) {
        const Two k = load_two(args.k + offset, column, args.d, at.work.pairs);
        of_row[m][half] += k.v[0] * x + k.v[1] * y;
      }
    });
    if constexpr (kOf == Of::dk) {
      put_sums(of_row);
      __syncthreads();
      const int s = static_cast<int>(threadIdx.x);
      if (s < count) args.digate[at.step(begin + s)] = sum_of(s);
    }
  }

  __device__ __forceinline__ void run() const {
    real* const x = kTurned ? room.earlier : room.later;
    real* const free = kTurned ? room.later : room.earlier;
    const real* const met = matrix();
    begin_chunk();
    make_square();
    if constexpr (kOf == Of::h) read_vector();
    __syncthreads();
    if constexpr (kOf == Of::h) divide();
    Result result{};
    if (met != nullptr) meet_state(met, x, free, result);
    fetch(kOf == Of::h ? args.v : kOf == Of::dq ? args.k : kOf == Of::dk ? args.q : args.dh, free);
    arrive();
    meet_rows(free, result);
    store(result, kOf == Of::h    ? args.h
                  : kOf == Of::dq ? args.dq
                  : kOf == Of::dk ? args.dk
                                  : args.dv);
  }
};

// Blocks that make one thing each of the same chunk are neighbours, so that its rows come from memory once.
template <int D, bool kExact, Of... kOf>
__global__ void __launch_bounds__(kThreads, 2) mlstm_chunk_kernel(const Work work) {
  auto& room = shared_room<ChunkRoom<D>>();
  const int64_t block = blockIdx.x / sizeof...(kOf);
  int kind = static_cast<int>(blockIdx.x % sizeof...(kOf));
  ((kind-- == 0 ? ChunkBlock<kOf, D, kExact>(work, block, room).run() : void()), ...);
}

template <Of... kOf>
void run_chunks(Cuda cuda, std::string_view name, const Work& work, bool exact) {
  with_constant<64, kWidest>(work.args.d <= 64 ? 64 : kWidest, [&](auto width) {
    start(cuda, name,
          exact ? mlstm_chunk_kernel<width(), true, kOf...>
                : mlstm_chunk_kernel<width(), false, kOf...>,
          {.blocks = work.args.B * work.args.H * work.chunks * int64_t{sizeof...(kOf)},
           .threads = kThreads,
           .shared_bytes = sizeof(ChunkRoom<width()>)},
          work);
  });
}

}  // namespace fprnn::cuda::mlstm_chunks
