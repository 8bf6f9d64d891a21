// The gradient of attention. Blocks of queries take their keys once more for dq, and blocks of keys
// their queries for dk and dv: each sum belongs to one block, in the order of the blocks it meets.
#include <fprnn/cuda/attention.cuh>

namespace fprnn {

namespace cuda {

namespace {

// What the scores of a row are less for its weights, log2 of its sum with the maximum, and y . dy: a
// warp a row.
__global__ void attention_rows_kernel(const AttentionBackward args, int padded, float2* rows) {
  const int64_t row = row_of_warp(), unit = row / padded, t = row % padded;
  if (unit >= args.B * args.H) return;
  float total = 0;
  if (t < args.T) {
    const int64_t at = ((unit / args.H * args.T + t) * args.H + unit % args.H) * args.d;
    for (int64_t j = lane_of(); j < args.d; j += kWarp)
      total += static_cast<float>(args.y[at + j] * args.dy[at + j]);
  }
  total = warp_sum(total);
  if (lane_of() != 0) return;
  float2 both = make_float2(0, 0);
  if (t < args.T) {
    const real* const kept = args.rows + 2 * (unit * args.T + t);
    both = make_float2(static_cast<float>(kept[0]) - ::log2f(static_cast<float>(kept[1])), total);
  }
  rows[row] = both;
}

// The product of the warp's 16 kM rows and a panel's, which are columns.
template <class Mode, int D, int kM, int kN>
__device__ __forceinline__ void multiply_rows(uint32_t left, uint32_t right,
                                              float (&x)[kM][kN][4]) {
  using P = Panel<Mode, D>;
  multiply_panel<Mode, D>(
      [&](int m, int step) { return P::left(left + m * 16 * P::kRowBytes, step); }, right, x);
}

template <class Mode, int D>
using OwnQueries = QueryBlock<Mode, D, AttentionBlock<Mode, D>::kColumnsBack, 2>;

template <class Mode, int D>
__global__ void __launch_bounds__(AttentionBlock<Mode, D>::kThreads)
    attention_queries_kernel(const AttentionBackward args, const HeadPanels<Mode> panels,
                             int blocks) {
  using Of = AttentionBlock<Mode, D>;
  using Own = OwnQueries<Mode, D>;
  constexpr int kM = Of::kM, kN = Of::kColumnsBack / 8;
  extern __shared__ __align__(16) unsigned char attention_bytes[];
  const Own block(args, attention_bytes, blocks);
  block.bring_rows(panels.q, 0);
  block.bring_rows(panels.dy, 1);
  block.bring(panels, block.begin, 0);
  const uint32_t q = block.rows + block.own * Of::kRowBytes, dy = q + Own::kOwnPanel;
  float dq[kM][D / 8][4] = {}, scale[kM][2];
  float2 kept[kM][2];
  unrolled<kM>([&](int m) {
    unrolled<2>([&](int half) {
      kept[m][half] = panels.rows[block.of_queries + block.own + m * 16 + half * 8 + lane_of() / 4];
      scale[m][half] = static_cast<float>(args.scale);
    });
  });

#pragma unroll 1
  for (int s = block.begin, stage = 0; s < block.end; s += Of::kColumnsBack, stage ^= 1) {
    block.step(panels, s, stage);
    if (block.none_seen(s)) continue;
    float x[kM][kN][4], dx[kM][kN][4];
    multiply_rows<Mode, D>(q, block.keys(stage), x);
    place_scores<1>(x, block.head, block.distance(s), Of::kColumnsBack, block.all_seen(s));
    multiply_rows<Mode, D>(dy, block.keys(stage) + Own::kPanel, dx);
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int n = 0; n < kN; ++n)
        unrolled<4>([&](int i) {
          const float2 row = kept[m][i / 2];
          const float weight = exp2_decay(x[m][n][i] - row.x);
          dx[m][n][i] = weight == 0 ? 0 : weight * (dx[m][n][i] - row.y);
        });
    add_product<Mode, D>(dx, block.keys(stage), dq);
  }
  const int t = block.t + block.own;
  store_rows(dq, scale, args.dq + block.head.place(args, args.T, t), static_cast<int>(args.T) - t,
             args.H * args.d, static_cast<int>(args.d));
}

// A block of keys of one head and the queries that it meets, like QueryBlock: panels of keys and values,
// and two stages of queries, cotangents and rows' numbers.
template <class Mode, int D>
struct OwnKeys {
  using Of = AttentionBlock<Mode, D>;
  using P = Panel<Mode, D>;
  static constexpr int kColumns = Of::kColumnsBack;
  static constexpr int kPanel = kColumns * Of::kRowBytes, kOwnPanel = Of::kRows * Of::kRowBytes;
  static constexpr int kStage = 2 * kPanel + kColumns * static_cast<int>(sizeof(float2));
  static constexpr int kBytes = 2 * kOwnPanel + 2 * kStage;
  static_assert(kBytes <= kLeastBlockBytes && kStage % 16 == 0 && kColumns / 2 <= Of::kThreads);

  HeadSight head;
  uint32_t rows;
  int T, s, own, key;  // the block's first key, the warp's first row and key
  int begin, end;      // from where the first key is seen to where the last leaves the window
  int64_t of_queries, of_keys;

  __device__ __forceinline__ OwnKeys(const AttentionForward& args, const void* shared, int blocks)
      : head(args, blockIdx.x / blocks),
        rows(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
        T(static_cast<int>(args.T)),
        s(static_cast<int>(blockIdx.x % blocks) * Of::kRows),
        own(static_cast<int>(threadIdx.x) / kWarp * 16 * Of::kM),
        key(s + own),
        begin(::max(0, s - head.past) / kColumns * kColumns),
        end(::min(T, ::min(s + Of::kRows, static_cast<int>(args.S)) - 1 - head.past + head.window)),
        of_queries(head.unit * padded_rows(T)),
        of_keys(head.unit * padded_rows(static_cast<int>(args.S)) + s) {}

  __device__ __forceinline__ int queries(int stage) const { return 2 * kOwnPanel + stage * kStage; }
  __device__ __forceinline__ void bring_rows(const HeadPanels<Mode>& panels) const {
    P::template bring<Of::kRows, Of::kThreads>(rows, panels.k + of_keys * D);
    P::template bring<Of::kRows, Of::kThreads>(rows + kOwnPanel, panels.v + of_keys * D);
    commit_async();
  }
  __device__ __forceinline__ void bring(const HeadPanels<Mode>& panels, int t, int stage) const {
    if (t >= end) return;
    const uint32_t to = rows + queries(stage);
    const int64_t from = of_queries + t;
    P::template bring<kColumns, Of::kThreads>(to, panels.q + from * D);
    P::template bring<kColumns, Of::kThreads>(to + kPanel, panels.dy + from * D);
    const int pair = static_cast<int>(threadIdx.x);  // of rows' numbers, 16 bytes
    if (pair < kColumns / 2)
      copy_quad_async(to + 2 * kPanel + pair * 16, panels.rows + from + 2 * pair);
    commit_async();
  }
  __device__ __forceinline__ void step(const HeadPanels<Mode>& panels, int t, int stage) const {
    wait_async<0>();
    __syncthreads();
    bring(panels, t + kColumns, stage ^ 1);
  }
  __device__ __forceinline__ bool none_seen(int t) const {
    const int position = head.past + t;
    return position + kColumns - 1 < key || position - (key + 16 * Of::kM - 1) >= head.window;
  }
  __device__ __forceinline__ bool all_seen(int t) const {
    const int position = head.past + t;
    return key + 16 * Of::kM - 1 <= position && t + kColumns <= T &&
           position + kColumns - 1 - key < head.window;
  }
  __device__ __forceinline__ int distance(int t) const {
    return head.past + t + lane_of() % 4 * 2 - key - lane_of() / 4;
  }
};

// change(x, dx, a row's numbers) of each score and cotangent, whose rows are keys.
template <int kM, int kN, class Change>
__device__ __forceinline__ void for_columns(const unsigned char* kept, float (&x)[kM][kN][4],
                                            float (&dx)[kM][kN][4], const Change& change) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float4 two = reinterpret_cast<const float4*>(kept)[n * 4 + lane_of() % 4];
    unrolled<kM>([&](int m) {
      unrolled<4>([&](int i) {
        change(x[m][n][i], dx[m][n][i],
               i % 2 == 0 ? make_float2(two.x, two.y) : make_float2(two.z, two.w));
      });
    });
  }
}

template <class Mode, int D>
__global__ void __launch_bounds__(AttentionBlock<Mode, D>::kThreads)
    attention_keys_kernel(const AttentionBackward args, const HeadPanels<Mode> panels, int blocks) {
  using Of = AttentionBlock<Mode, D>;
  using Own = OwnKeys<Mode, D>;
  constexpr int kM = Of::kM, kN = Of::kColumnsBack / 8;
  extern __shared__ __align__(16) unsigned char attention_bytes[];
  const Own block(args, attention_bytes, blocks);
  block.bring_rows(panels);
  block.bring(panels, block.begin, 0);
  const uint32_t k = block.rows + block.own * Of::kRowBytes, v = k + Own::kOwnPanel;
  float dk[kM][D / 8][4] = {}, dv[kM][D / 8][4] = {};

#pragma unroll 1
  for (int t = block.begin, stage = 0; t < block.end; t += Of::kColumnsBack, stage ^= 1) {
    block.step(panels, t, stage);
    if (block.none_seen(t)) continue;
    const uint32_t q = block.rows + block.queries(stage), dy = q + Own::kPanel;
    const unsigned char* const kept = attention_bytes + block.queries(stage) + 2 * Own::kPanel;
    float x[kM][kN][4], dx[kM][kN][4];
    multiply_rows<Mode, D>(k, q, x);
    place_scores<-1>(x, block.head, block.distance(t), block.T - t - lane_of() % 4 * 2,
                     block.all_seen(t));
    for_columns(kept, x, dx, [](float& x, float&, float2 row) { x = exp2_decay(x - row.x); });
    add_product<Mode, D>(x, dy, dv);
    multiply_rows<Mode, D>(v, dy, dx);
    for_columns(kept, x, dx,
                [](float& x, float& dx, float2 row) { dx = x == 0 ? 0 : x * (dx - row.y); });
    add_product<Mode, D>(dx, q, dk);
  }
  wait_async<0>();  // a block that no query sees

  float one[kM][2], factor[kM][2];  // q came times scale log2(e)
  unrolled<kM>([&](int m) {
    one[m][0] = one[m][1] = 1;
    factor[m][0] = factor[m][1] = static_cast<float>(1 / kLog2e);
  });
  const int64_t to = block.head.place(args, args.S, block.key), stride = args.H * args.d;
  const int count = static_cast<int>(args.S) - block.key, d = static_cast<int>(args.d);
  store_rows(dk, factor, args.dk + to, count, stride, d);
  store_rows(dv, one, args.dv + to, count, stride, d);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const AttentionBackward& args) {
  const Tensor q = pack_heads(cuda, args, args.q, args.T, args.scale * kLog2e),
               k = pack_heads(cuda, args, args.k, args.S, 1),
               v = pack_heads(cuda, args, args.v, args.S, 1),
               dy = pack_heads(cuda, args, args.dy, args.T, 1);
  const int64_t heads = args.B * args.H, all = padded(args.T);
  const Tensor kept(cuda.context, Shape{heads, all, 2});
  const auto rows = reinterpret_cast<float2*>(kept.data());
  Grid grid = rows_by_warps(heads * all);
  start(cuda, "attention_rows", attention_rows_kernel, grid, args, static_cast<int>(all), rows);
  with_attention(cuda, args.d, [&](auto mode, auto D) {
    using Mode = decltype(mode);
    using Of = AttentionBlock<Mode, D()>;
    const auto elements = [](const Tensor& x) {
      return reinterpret_cast<const typename Mode::Element*>(x.data());
    };
    const HeadPanels<Mode> panels{
        .q = elements(q), .k = elements(k), .v = elements(v), .dy = elements(dy), .rows = rows};
    const int64_t of_queries = ceil_div(args.T, Of::kRows), of_keys = ceil_div(args.S, Of::kRows);
    grid = {.blocks = heads * of_queries,
            .threads = Of::kThreads,
            .shared_bytes = OwnQueries<Mode, D()>::kBytes};
    start(cuda, "attention_queries", attention_queries_kernel<Mode, D()>, grid, args, panels,
          static_cast<int>(of_queries));
    grid.blocks = heads * of_keys;
    grid.shared_bytes = OwnKeys<Mode, D()>::kBytes;
    start(cuda, "attention_keys", attention_keys_kernel<Mode, D()>, grid, args, panels,
          static_cast<int>(of_keys));
  });
}

}  // namespace fprnn
