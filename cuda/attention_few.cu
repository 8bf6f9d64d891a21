// Attention of a few queries, a decoder's, straight from the keys and values as they lie in memory: eight
// lanes a key, four keys each at a time. A query's keys are shared out over as many blocks as keep a GPU
// busy, and what these have is put together in their order.
#include <fprnn/cuda/attention.cuh>

namespace fprnn::cuda {

namespace {

constexpr int kFewThreads = 128, kLanesOfKey = 8, kGroups = kFewThreads / kLanesOfKey;
constexpr int kAtOnce = 4;

// A block's sum of weights and the maximum that they are relative to, and the sum of its values.
template <int D>
struct Share {
  float most, sum, y[D];
};

// A lane's channels, in fours: of key s's four number c the first is 32 c + 4 lane.
template <int D, bool kQuads>
struct LaneRow {
  static constexpr int kFours = D / (4 * kLanesOfKey);
  float4 x[kFours];
  __device__ __forceinline__ LaneRow(const real* row, int d) {
    const int lane = lane_of() % kLanesOfKey * 4;
    unrolled<kFours>([&](int c) {
      const int j = 32 * c + lane;
      const auto one = [&](int k) { return j + k < d ? static_cast<float>(row[j + k]) : 0.0f; };
      if constexpr (kQuads)
        x[c] = j < d ? __ldg(reinterpret_cast<const float4*>(row + j)) : make_float4(0, 0, 0, 0);
      else
        x[c] = make_float4(one(0), one(1), one(2), one(3));
    });
  }
};

// What eight lanes have of a query: the maximum of the scores so far, the sum of their weights, and
// the lane's channels of the sum of values.
template <int D, bool kQuads>
struct Attended {
  using Row = LaneRow<D, kQuads>;
  float most = kLowest, sum = 0;
  float4 y[Row::kFours] = {};

  // Keys of which x are the scores, -infinity for none.
  template <class RowOf>
  __device__ __forceinline__ void add(const float (&x)[kAtOnce], const RowOf& value) {
    float largest = most;
    unrolled<kAtOnce>([&](int i) { largest = ::fmaxf(largest, x[i]); });
    const float factor = exp2_decay(most - largest);
    most = largest;
    sum *= factor;
    unrolled<Row::kFours>([&](int c) {
      y[c] = make_float4(y[c].x * factor, y[c].y * factor, y[c].z * factor, y[c].w * factor);
    });
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const Row v = value(i);
      const float weight = exp2_decay(x[i] - largest);
      sum += weight;
      unrolled<Row::kFours>([&](int c) {
        y[c].x += weight * v.x[c].x;
        y[c].y += weight * v.x[c].y;
        y[c].z += weight * v.x[c].z;
        y[c].w += weight * v.x[c].w;
      });
    }
  }

  // All groups' of the block, in their order, a channel a thread.
  __device__ __forceinline__ void give(Share<D>& share) const {
    static_assert(D <= kFewThreads);
    __shared__ float all_most[kGroups], all_sums[kGroups], all_y[kGroups][D];
    const int thread = static_cast<int>(threadIdx.x), group = thread / kLanesOfKey;
    const int lane = thread % kLanesOfKey;
    unrolled<Row::kFours>([&](int c) {
      float* const to = &all_y[group][32 * c + 4 * lane];
      to[0] = y[c].x, to[1] = y[c].y, to[2] = y[c].z, to[3] = y[c].w;
    });
    if (lane == 0) all_most[group] = most, all_sums[group] = sum;
    __syncthreads();
    if (thread >= D) return;
    float largest = kLowest, total = 0, value = 0;
    for (int i = 0; i < kGroups; ++i) largest = ::fmaxf(largest, all_most[i]);
    for (int i = 0; i < kGroups; ++i) {
      const float factor = exp2_decay(all_most[i] - largest);
      total += factor * all_sums[i];
      value += factor * all_y[i][thread];
    }
    share.y[thread] = value;
    if (thread == 0) share.most = largest, share.sum = total;
  }
};

template <int D, bool kQuads>
__global__ void __launch_bounds__(kFewThreads)
    attention_few_kernel(const AttentionForward args, int splits, Share<D>* shares) {
  using Row = LaneRow<D, kQuads>;
  const int64_t unit = blockIdx.x / splits, token = unit / args.H;
  const int split = static_cast<int>(blockIdx.x % splits), d = static_cast<int>(args.d);
  const HeadSight head(args, token / args.T * args.H + unit % args.H);
  const int p = head.past + static_cast<int>(token % args.T);
  const int first = ::max(0, p - head.window + 1), each = (p - first + splits) / splits;
  const int begin = first + split * each, end = ::min(begin + each, p + 1);
  const int group = static_cast<int>(threadIdx.x) / kLanesOfKey;
  const Row q(args.q + unit * d, d);
  const float scale = static_cast<float>(args.scale * kLog2e);
  Attended<D, kQuads> all;
  // All lanes go as often.
  for (int from = begin; from < end; from += kAtOnce * kGroups) {
    const auto key = [&](int i) { return from + group + i * kGroups; };
    const auto row_of = [&](const real* rows, int i) {
      return Row(rows + head.place(args, args.S, ::min(key(i), end - 1)), d);
    };
    float x[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const Row k = row_of(args.k, i);
      x[i] = 0;
      unrolled<Row::kFours>([&](int c) {
        x[i] +=
            q.x[c].x * k.x[c].x + q.x[c].y * k.x[c].y + q.x[c].z * k.x[c].z + q.x[c].w * k.x[c].w;
      });
    }
    unrolled<kAtOnce>([&](int i) {
      x[i] = warp_sum<kLanesOfKey>(x[i]) * scale - head.slope * static_cast<float>(p - key(i));
      if (key(i) >= end) x[i] = -INFINITY;
    });
    all.add(x, [&](int i) { return row_of(args.v, i); });
  }
  all.give(shares[blockIdx.x]);
}

template <int D>
__global__ void __launch_bounds__(kFewThreads)
    attention_shares_kernel(const AttentionForward args, int splits, const Share<D>* shares) {
  const int64_t unit = blockIdx.x;
  const int channel = static_cast<int>(threadIdx.x);
  if (channel >= args.d) return;
  const Share<D>* const own = shares + unit * splits;
  float most = kLowest, total = 0, value = 0;
  for (int i = 0; i < splits; ++i) most = ::fmaxf(most, own[i].most);
  for (int i = 0; i < splits; ++i) {
    const float factor = exp2_decay(own[i].most - most);
    total += factor * own[i].sum;
    value += factor * own[i].y[channel];
  }
  args.y[unit * args.d + channel] = value / total;
  if (channel != 0 || args.rows == nullptr) return;
  const int64_t token = unit / args.H, b = token / args.T;
  real* const kept = args.rows + 2 * ((b * args.H + unit % args.H) * args.T + token % args.T);
  kept[0] = most;
  kept[1] = 1 / total;
}

}  // namespace

void attend_few(Cuda cuda, const AttentionForward& args) {
  constexpr int64_t kBlocks = 1024,
                    kKeys = 2 * kAtOnce * kGroups;  // enough blocks; a block's least
  const int64_t units = args.B * args.T * args.H;
  if (units == 0) return;
  const int64_t splits = std::min(ceil_div(kBlocks, units), ceil_div(args.S, kKeys));
  const bool quads = args.d % 4 == 0 && quads_aligned(args.q, args.k, args.v);
  with_attention(cuda, args.d, [&](auto, auto D) {
    using Own = Share<D()>;
    static_assert(sizeof(Own) == (D() + 2) * sizeof(float));
    const Tensor space(cuda.context, Shape{units, splits, D() + 2});
    const auto shares = reinterpret_cast<Own*>(space.data());
    const int parts = static_cast<int>(splits);
    start(cuda, "attention_few",
          quads ? attention_few_kernel<D(), true> : attention_few_kernel<D(), false>,
          {.blocks = units * splits, .threads = kFewThreads}, args, parts, shares);
    start(cuda, "attention_shares", attention_shares_kernel<D()>,
          {.blocks = units, .threads = kFewThreads}, args, parts, static_cast<const Own*>(shares));
  });
}

}  // namespace fprnn::cuda
