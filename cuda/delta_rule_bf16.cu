// The delta rule's forward with products in bf16 (ops/delta_rule.md, "On a GPU in bf16"). A block of eight warps goes
// through time with 64 columns of a head's S in registers, 16 keys a warp; products read a copy in bf16 in
// shared memory, as they do k, q and what is made of v. The chunk to come is on its way meanwhile.
#include <cuda_bf16.h>

#include <fprnn/cuda/delta_rule.cuh>

namespace fprnn {

namespace cuda {
namespace {

using namespace delta;

using Half = __nv_bfloat16;
using Bf16Form = Form<128, 64>;
using At = Place<Bf16Form>;
constexpr int kThreads = 256, kKeys = Bf16Form::kKeys, kColumns = Bf16Form::kColumns;
static_assert(kThreads / kWarp * 16 == kKeys, "a warp has 16 keys of S");
// Rows are an odd multiple of 16 bytes apart, so that eight of them meet all banks once.
constexpr int kKeyStride = kKeys + 8, kColumnStride = kColumns + 8, kSquareStride = kSteps + 8;

struct alignas(16) Bf16Room {
  real stage[2][kSteps][kKeys];  // k and q of the chunk to come
  Half keys[2][kSteps][kKeyStride];
  Half S[kKeys][kColumnStride];
  Half u[kSteps][kColumnStride];     // beta (v - exp(G) S^T k)
  Half R[2][kSteps][kColumnStride];  // T u; the same, by what is left of it at the chunk's end
  Half T[kSteps][kSquareStride], P[kSteps][kSquareStride];
  Square L;
  Scalars scalars[2];  // of this chunk and the one to come, in turns
};
static_assert(kDouble || sizeof(Bf16Room) <= kLeastBlockBytes);

struct Aligned {
  bool quads, pairs;  // 16 bytes of k and q, 8 of what has columns are read at once
};
struct alignas(2 * sizeof(real)) Pair {
  real v[2];
};

__device__ __forceinline__ uint32_t two_halves(float x, float y) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&both);
}
__device__ __forceinline__ void put_two(Half* to, float x, float y) {
  *reinterpret_cast<uint32_t*>(to) = two_halves(x, y);
}

// 16 by 16 numbers from `x` on as a product takes them. Crossed: its second matrix of 8 by 8 lies beside the
// first, not below it.
template <bool kTurned, bool kCrossed>
__device__ __forceinline__ void load_halves(const Half* x, int stride, uint32_t (&to)[4]) {
  const int lane = lane_of();
  const int row = kCrossed ? lane % 8 + lane / 16 * 8 : lane % 16,
            column = kCrossed ? lane / 8 % 2 * 8 : lane / 16 * 8;
  const auto place = static_cast<uint32_t>(__cvta_generic_to_shared(x + row * stride + column));
  if constexpr (kTurned)
    load_turned_tiles(place, to);
  else
    load_tiles(place, to);
}
// c += a b, where b is 16 by 16 numbers from `b` on, or their transpose.
template <bool kTransposed>
__device__ __forceinline__ void add_halves(float (&c0)[4], float (&c1)[4], const uint32_t (&a)[4],
                                           const Half* b, int stride) {
  uint32_t of_b[4];
  load_halves<!kTransposed, kTransposed>(b, stride, of_b);
  multiply_bf16(c0, a, of_b[0], of_b[1]);
  multiply_bf16(c1, a, of_b[2], of_b[3]);
}

// visit(x, y, i, j) of the lane's pairs (i, j) and (i, j + 1) of 16 rows.
template <int N, class Visit>
__device__ __forceinline__ void each_two(float (&sums)[N][4], const Visit& visit) {
  const int g = lane_of() / 4, t = lane_of() % 4;
  unrolled<N>([&](int n) {
    unrolled<2>([&](int half) {
      visit(sums[n][2 * half], sums[n][2 * half + 1], g + 8 * half, 8 * n + 2 * t);
    });
  });
}
__device__ __forceinline__ void load_pair(const real* row, int column, int columns, bool pairs,
                                          float& x, float& y) {
  Pair pair{};
  if (pairs) {
    if (column < columns) pair = *reinterpret_cast<const Pair*>(row + column);
  } else {
    if (column < columns) pair.v[0] = row[column];
    if (column + 1 < columns) pair.v[1] = row[column + 1];
  }
  x = static_cast<float>(pair.v[0]);
  y = static_cast<float>(pair.v[1]);
}
__device__ __forceinline__ void store_pair(real* row, int column, int columns, bool pairs, float x,
                                           float y) {
  if (pairs) {
    if (column < columns) *reinterpret_cast<Pair*>(row + column) = {{real(x), real(y)}};
  } else {
    if (column < columns) row[column] = x;
    if (column + 1 < columns) row[column + 1] = y;
  }
}

template <int Width>
__device__ __forceinline__ void fetch_keys(const real* from, int64_t distance, int present,
                                           int64_t width, real (&to)[kSteps][kKeys]) {
  constexpr int kAcross = kKeys / Width;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < kSteps * kAcross; i += kThreads) {
    const int row = i / kAcross, column = i % kAcross * Width;
    copy_async<Width * sizeof(real)>(&to[row][column], from + row * distance + column,
                                     row < present && column < width);
  }
}
__device__ __forceinline__ void fetch_chunk(const At& at, const Chunk& chunk, bool quads,
                                            Bf16Room& room) {
  const int64_t K = at.args.K, distance = at.args.H * K;
  const real* const k = at.args.k + at.key(chunk.token * at.args.n);
  const real* const q = at.args.q + at.query(chunk.token);
  if (quads) {
    fetch_keys<Quad::kCount>(k, distance, chunk.steps, K, room.stage[0]);
    fetch_keys<Quad::kCount>(q, distance, chunk.tokens, K, room.stage[1]);
  } else {
    fetch_keys<1>(k, distance, chunk.steps, K, room.stage[0]);
    fetch_keys<1>(q, distance, chunk.tokens, K, room.stage[1]);
  }
}
__device__ __forceinline__ void convert_keys(Bf16Room& room) {
  constexpr int kAcross = kKeys / 4;
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kSteps * kAcross; i += kThreads) {
    const int row = i / kAcross, column = i % kAcross * 4;
    const real* const x = &room.stage[0][0][0] + row * kKeys + column;
    Half* const to = &room.keys[0][0][0] + row * kKeyStride + column;
    const uint2 four = make_uint2(two_halves(static_cast<float>(x[0]), static_cast<float>(x[1])),
                                  two_halves(static_cast<float>(x[2]), static_cast<float>(x[3])));
    *reinterpret_cast<uint2*>(to) = four;
  }
}

// L, strictly lower triangular with zeros elsewhere; T <- (I + L)^-1. By one whole warp: blocks of 16 on the
// diagonal in floats, then the transpose of the one below, -(T_1^T L_21^T) T_2^T.
__device__ __forceinline__ void invert(Bf16Room& room) {
  Square& L = room.L;
  const int lane = lane_of(), g = lane / 4, t = lane % 4, j = 2 * t;
  invert_diagonal(L);
  __syncwarp();
  const auto two = [](real x, real y) {
    return two_halves(static_cast<float>(x), static_cast<float>(y));
  };
  uint32_t a[4];
  unrolled<4>([&](int i) {
    const int row = g + i % 2 * 8, l = j + i / 2 * 8;
    a[i] = two(L[l][row], L[l + 1][row]);
  });
  float y[2][4]{}, below[2][4]{};
  unrolled<2>([&](int n) {
    const auto& row = L[16 + 8 * n + g];
    multiply_bf16(y[n], a, two(row[j], row[j + 1]), two(row[j + 8], row[j + 9]));
  });
  unrolled<4>([&](int i) { a[i] = two_halves(y[i / 2][i % 2 * 2], y[i / 2][i % 2 * 2 + 1]); });
  unrolled<2>([&](int n) {
    const auto& row = L[16 + 8 * n + g];
    multiply_bf16(below[n], a, two(row[16 + j], row[17 + j]), two(row[24 + j], row[25 + j]));
  });
  each_two(below, [&](float& x, float& next, int column, int row) {
    room.T[16 + row][column] = __float2bfloat16_rn(-x);
    room.T[17 + row][column] = __float2bfloat16_rn(-next);
  });
  const int first = lane / 16 * 16;
  unrolled<8>([&](int l) {
    put_two(&room.T[lane][first + 2 * l], static_cast<float>(L[lane][first + 2 * l]),
            static_cast<float>(L[lane][first + 2 * l + 1]));
    if (first == 0) put_two(&room.T[lane][16 + 2 * l], 0, 0);
  });
}

// What a warp has in registers: 16 rows of S; v of its rows of the chunk to come, if it reads keys.
struct Bf16Warp {
  const At& at;
  Bf16Room& room;
  const Aligned aligned;
  int warp, row, part;  // of products with k (row 0, 1) and q (2, 3): 16 rows, half of the columns
  float S[kColumns / 8][4], v[4][4];

  __device__ __forceinline__ Bf16Warp(const At& at, Bf16Room& room, const Aligned& aligned)
      : at(at), room(room), aligned(aligned), warp(warp_of()), row(warp % 4), part(warp / 4) {}

  __device__ __forceinline__ void load_state() {
    const real* const from = at.args.entering == nullptr ? nullptr : at.args.entering + at.state();
    each_two(S, [&](float& x, float& y, int i, int j) {
      const int64_t key = 16 * warp + i;
      const bool there = from != nullptr && key < at.args.K;
      load_pair(from + (there ? key * at.args.V : 0), j, there ? at.columns : 0, aligned.pairs, x,
                y);
    });
  }
  __device__ __forceinline__ void store_state(real* to) {
    each_two(S, [&](float& x, float& y, int i, int j) {
      const int64_t key = 16 * warp + i;
      if (key < at.args.K) store_pair(to + key * at.args.V, j, at.columns, aligned.pairs, x, y);
    });
  }
  __device__ __forceinline__ void share_state() {
    each_two(S,
             [&](float& x, float& y, int i, int j) { put_two(&room.S[16 * warp + i][j], x, y); });
  }
  __device__ __forceinline__ void load_values(const Chunk& chunk) {
    if (row >= 2) return;
    const real* const from = at.args.v + at.value(chunk.token * at.args.n);
    each_two(v, [&](float& x, float& y, int i, int j) {
      const int step = 16 * row + i;
      const bool there = step < chunk.steps;
      load_pair(from + (there ? step * at.args.HV * at.args.V : 0), 32 * part + j,
                there ? at.columns : 0, aligned.pairs, x, y);
    });
  }

  // L and u, or P and what S gives to the outputs.
  __device__ __forceinline__ void read_keys(const Scalars& of, float (&read)[4][4]) {
    float score[2][4]{};
#pragma unroll 1
    for (int l = 0; l < at.plan.keys; l += 16) {
      uint32_t a[4];
      load_halves<false, false>(&room.keys[row / 2][row % 2 * 16][l], kKeyStride, a);
      add_halves<true>(score[0], score[1], a, &room.keys[0][16 * part][l], kKeyStride);
      unrolled<2>([&](int p) {
        add_halves<false>(read[2 * p], read[2 * p + 1], a, &room.S[l][32 * part + 16 * p],
                          kColumnStride);
      });
    }
    const int first = row % 2 * 16;
    each_two(score, [&](float& x, float& y, int i, int j) {
      const int r = first + i, c = 16 * part + j;
      if (row < 2) {
        room.L[r][c] = of.beta[r] * of.between_keys(r, c, x);
        room.L[r][c + 1] = of.beta[r] * of.between_keys(r, c + 1, y);
      } else {
        put_two(&room.P[r][c], static_cast<float>(of.at_query(at.args.n, r, c, x)),
                static_cast<float>(of.at_query(at.args.n, r, c + 1, y)));
      }
    });
    unrolled<4>([&](int n) {
      unrolled<4>([&](int k) {
        const int r = first + lane_of() / 4 + k / 2 * 8;
        if (row < 2)
          read[n][k] = static_cast<float>(of.beta[r]) *
                       (v[n][k] - static_cast<float>(of.gain[r]) * read[n][k]);
        else
          read[n][k] *= static_cast<float>(of.token_gain[r]);
      });
    });
    if (row < 2)
      each_two(read, [&](float& x, float& y, int i, int j) {
        put_two(&room.u[first + i][32 * part + j], x, y);
      });
  }

  __device__ __forceinline__ void solve(const Scalars& of) {
    const int first = warp % 2 * 16, column = warp / 2 * 16;
    float r[2][4]{};
    unrolled<2>([&](int l) {
      uint32_t a[4];
      load_halves<false, false>(&room.T[first][16 * l], kSquareStride, a);
      add_halves<false>(r[0], r[1], a, &room.u[16 * l][column], kColumnStride);
    });
    each_two(r, [&](float& x, float& y, int i, int j) {
      const float left = static_cast<float>(of.left[first + i]);
      put_two(&room.R[0][first + i][column + j], x, y);
      put_two(&room.R[1][first + i][column + j], left * x, left * y);
    });
  }

  __device__ __forceinline__ void put_output(const Chunk& chunk, float (&o)[4][4]) {
    if (row < 2) return;
    const int first = row % 2 * 16;
    unrolled<2>([&](int l) {
      uint32_t a[4];
      load_halves<false, false>(&room.P[first][16 * l], kSquareStride, a);
      unrolled<2>([&](int p) {
        add_halves<false>(o[2 * p], o[2 * p + 1], a, &room.R[0][16 * l][32 * part + 16 * p],
                          kColumnStride);
      });
    });
    real* const to = at.args.o + at.output(chunk.token);
    const float scale = static_cast<float>(at.args.scale);
    each_two(o, [&](float& x, float& y, int i, int j) {
      if (first + i < chunk.tokens)
        store_pair(to + (first + i) * at.args.HV * at.args.V, 32 * part + j, at.columns,
                   aligned.pairs, scale * x, scale * y);
    });
  }

  __device__ __forceinline__ void advance(const Scalars& of) {
    const float gain = static_cast<float>(of.gain_of_chunk);
    unrolled<kColumns / 8>([&](int n) { unrolled<4>([&](int k) { S[n][k] *= gain; }); });
    unrolled<2>([&](int l) {
      uint32_t a[4];
      load_halves<true, true>(&room.keys[0][16 * l][16 * warp], kKeyStride, a);
      unrolled<kColumns / 16>([&](int p) {
        add_halves<false>(S[2 * p], S[2 * p + 1], a, &room.R[1][16 * l][16 * p], kColumnStride);
      });
    });
    share_state();
  }
};

// What of the chunk to come is asked for once its room is free.
__global__ void __launch_bounds__(kThreads, 2)
    delta_rule_bf16_kernel(const DeltaRuleForward args, const Plan plan, const Aligned aligned) {
  auto& room = shared_room<Bf16Room>();
  const At at(args, plan);
  Bf16Warp own(at, room, aligned);
  const Chunk begin(args, plan, 0);
  fetch_chunk(at, begin, aligned.quads, room);
  commit_async();
  own.load_state();
  own.share_state();
  own.load_values(begin);
  if (own.warp == 4) make_scalars(at, begin, room.scalars[0]);
#pragma unroll 1
  for (int64_t number = 0; number < plan.chunks; ++number) {
    const Chunk chunk(args, plan, number);
    const Scalars& of = room.scalars[number % 2];
    const bool more = number + 1 < plan.chunks;
    wait_async<0>();
    __syncthreads();
    convert_keys(room);
    __syncthreads();
    if (more) fetch_chunk(at, Chunk(args, plan, number + 1), aligned.quads, room);
    commit_async();
    if (args.checkpoints != nullptr) own.store_state(args.checkpoints + at.checkpoint(number));
    float read[4][4]{};
    own.read_keys(of, read);
    if (more) own.load_values(Chunk(args, plan, number + 1));
    __syncthreads();
    if (own.warp == 0) invert(room);
    if (more && own.warp == 4)
      make_scalars(at, Chunk(args, plan, number + 1), room.scalars[(number + 1) % 2]);
    __syncthreads();
    own.solve(of);
    __syncthreads();
    own.put_output(chunk, read);
    own.advance(of);
  }
  own.store_state(args.state + at.state());
}

}  // namespace

void run_delta_bf16(Cuda cuda, const DeltaRuleForward& args) {
  const Plan plan = plan_of<Bf16Form>(args);
  const Aligned aligned{.quads = args.K % Quad::kCount == 0 && quads_aligned(args.q, args.k),
                        .pairs = args.V % 2 == 0 && quads_aligned(args.v, args.o, args.entering,
                                                                  args.state, args.checkpoints)};
  start(cuda, "delta_rule_bf16", delta_rule_bf16_kernel,
        {.blocks = args.B * args.HV * plan.tiles,
         .threads = kThreads,
         .shared_bytes = sizeof(Bf16Room)},
        args, plan, aligned);
}

}  // namespace cuda

}  // namespace fprnn
