// What PD-SSM chooses, and its gradient. Forward a thread takes two tokens and goes through the candidates of a
// slot, so that the argmax needs no other thread. Backward a warp takes a slot, a lane candidates
// with their matrices and the gradients of these in registers, and goes through tokens: only the
// softmax and dpi are sums over lanes. Derivation: ops/pd_scan.md.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/shares.cuh>
#include <fprnn/cuda/team.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/pd_scan.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kMostStates = 4 * kWarp;  // N

// The K numbers of shared memory at `from`, times x.
template <int K>
__device__ __forceinline__ real dot(const real* from, const real (&x)[K]) {
  const Quad* const quads = reinterpret_cast<const Quad*>(from);
  real sums[Quad::kCount]{};
#pragma unroll
  for (int q = 0; q < K / Quad::kCount; ++q) {
    const Quad few = quads[q];
#pragma unroll
    for (int j = 0; j < Quad::kCount; ++j) sums[j] += few.v[j] * x[q * Quad::kCount + j];
  }
  real total = sums[0];
#pragma unroll
  for (int j = 1; j < Quad::kCount; ++j) total += sums[j];
  return total;
}

constexpr int kSelectThreads = 128, kSelectTokens = 2 * kSelectThreads, kSelectSlots = 4;

// The softmax of one token, and 0 beyond K.
template <int KP>
__device__ __forceinline__ void softmax_of(const real* selection, int64_t K, real (&pi)[KP]) {
  real most = selection[0], total = 0;
  unrolled<KP>([&](int k) {
    pi[k] = k < K ? selection[k] : real(0);
    if (k < K) most = larger(pi[k], most);
  });
  unrolled<KP>([&](int k) {
    pi[k] = k < K ? exp(pi[k] - most) : real(0);
    total += pi[k];
  });
  unrolled<KP>([&](int k) { pi[k] /= total; });
}

// A block takes a group of slots of a piece of tokens; the first group writes pi. KP: K or more.
template <int KP>
__global__ void __launch_bounds__(kSelectThreads)
    pd_select_kernel(const PdSelect args, int64_t groups) {
  alignas(16) __shared__ real matrices[kMostStates * KP];
  const int64_t N = args.N, K = args.K, group = blockIdx.x % groups,
                first = blockIdx.x / groups * kSelectTokens + threadIdx.x;
  real pi[2][KP];
  unrolled<2>([&](int i) {
    const int64_t token = first + i * kSelectThreads;
    unrolled<KP>([&](int k) { pi[i][k] = 0; });
    if (token >= args.tokens) return;
    softmax_of(args.selection + token * K, K, pi[i]);
    if (group == 0)
      unrolled<KP>([&](int k) {
        if (k < K) args.pi[token * K + k] = pi[i][k];
      });
  });
  const int64_t end = min(N, (group + 1) * kSelectSlots);
  for (int64_t slot = group * kSelectSlots; slot < end; ++slot) {
    __syncthreads();
    for (int i = threadIdx.x; i < N * KP; i += kSelectThreads)
      matrices[i] = i % KP < K ? args.dictionary[(slot * N + i / KP) * K + i % KP] : real(0);
    __syncthreads();
    real best[2];
    int at[2]{};
    unrolled<2>([&](int i) { best[i] = dot(matrices, pi[i]); });
    for (int c = 1; c < N; ++c)
      unrolled<2>([&](int i) {
        const real m = dot(matrices + c * KP, pi[i]);
        if (m > best[i]) {
          best[i] = m;
          at[i] = c;
        }
      });
    unrolled<2>([&](int i) {
      const int64_t token = first + i * kSelectThreads;
      if (token < args.tokens) args.chosen[token * N + slot] = at[i];
    });
  }
}

constexpr int kBackSlots = 8;                  // a warp each
constexpr int kBackTokens = kDouble ? 8 : 16;  // in shared memory
constexpr int64_t kBackBlocks = 256;           // at most, where slots are few

// Tokens in shared memory, with zeros beyond K and N.
template <int C, int KP>
struct BackTile {
  static constexpr int kWidth = C * kWarp;
  alignas(16) real pi[kBackTokens][KP];
  real left[kBackTokens][2][kWidth];
  real right[kBackTokens][2][kBackSlots];
  real dpi[kBackSlots][kBackTokens][KP];

  __device__ __forceinline__ void load(const PdSelectBackward& args, int64_t first, int count,
                                       int64_t slots) {
    const int64_t N = args.N, K = args.K;
    for (int i = threadIdx.x; i < count * KP; i += blockDim.x) {
      const int t = i / KP, k = i % KP;
      pi[t][k] = k < K ? args.pi[(first + t) * K + k] : real(0);
    }
    for (int i = threadIdx.x; i < count * 2 * kWidth; i += blockDim.x) {
      const int t = i / (2 * kWidth), part = i / kWidth % 2, c = i % kWidth;
      left[t][part][c] = c < N ? args.left[((first + t) * 2 + part) * N + c] : real(0);
    }
    for (int i = threadIdx.x; i < count * 2 * kBackSlots; i += blockDim.x) {
      const int t = i / (2 * kBackSlots), part = i / kBackSlots % 2, s = i % kBackSlots;
      right[t][part][s] =
          slots + s < N ? args.right[((first + t) * 2 + part) * N + slots + s] : real(0);
    }
  }
};

// A lane's candidates of a warp's slot.
template <int C, int KP>
struct BackSlot {
  real a[C][KP], da[C][KP];

  // visit(i, k, the element's place in the dictionary) for those that there are.
  template <class Visit>
  static __device__ __forceinline__ void each(int64_t slot, int64_t N, int64_t K,
                                              const Visit& visit) {
    unrolled<C>([&](int i) {
      const int64_t c = lane_of() + kWarp * i;
      unrolled<KP>([&](int k) {
        if (slot < N && c < N && k < K) visit(i, k, (slot * N + c) * K + k);
      });
    });
  }
  // The cotangents of M of token t: dm.
  __device__ __forceinline__ void cotangent(const BackTile<C, KP>& tile, int t, int64_t N,
                                            real (&dm)[C]) const {
    real m[C], dp[C], top = -INFINITY, sums[2]{};
    unrolled<C>([&](int i) {
      m[i] = dot(tile.pi[t], a[i]);
      if (lane_of() + kWarp * i < N) top = larger_or_nan(m[i], top);
    });
    top = warp_max(top);
    const int warp = threadIdx.x / kWarp;
    const real re = tile.right[t][0][warp], im = tile.right[t][1][warp];
    unrolled<C>([&](int i) {
      const int c = lane_of() + kWarp * i;
      m[i] = c < N ? exp(m[i] - top) : real(0);
      dp[i] = re * tile.left[t][0][c] + im * tile.left[t][1][c];
      sums[0] += m[i];
      sums[1] += m[i] * dp[i];
    });
    const real own = sums_by_lane(sums);
    const real share = 1 / __shfl_sync(kAllLanes, own, 0),
               mean = __shfl_sync(kAllLanes, own, kWarp / 2) * share;
    unrolled<C>([&](int i) { dm[i] = m[i] * (share * (dp[i] - mean)); });
  }
  // Adds to da and leaves the warp's part of dpi in the tile.
  __device__ __forceinline__ void take(BackTile<C, KP>& tile, int t, int64_t N) {
    real dm[C], dpi[KP]{};
    cotangent(tile, t, N, dm);
    unrolled<KP>([&](int k) {
      const real pi = tile.pi[t][k];
      unrolled<C>([&](int i) {
        dpi[k] += dm[i] * a[i][k];
        da[i][k] += dm[i] * pi;
      });
    });
    constexpr int kLanes = kWarp / KP;
    const real own = sums_by_lane(dpi);
    if (lane_of() % kLanes == 0) tile.dpi[threadIdx.x / kWarp][t][lane_of() / kLanes] = own;
  }
};

// of_dictionary: (pieces, N, N, K); of_pi: (groups, tokens, K).
template <int C, int KP>
__global__ void __launch_bounds__(kBackSlots* kWarp, C* KP <= 32 ? 2 : 1)
    pd_select_backward_kernel(const PdSelectBackward args, int64_t groups, int64_t piece,
                              real* of_dictionary, real* of_pi) {
  static_assert(C * kWarp <= kMostStates && kWarp % KP == 0 && KP % Quad::kCount == 0);
  static_assert(sizeof(BackTile<C, KP>) <= 48 << 10);
  __shared__ BackTile<C, KP> tile;
  const int64_t N = args.N, K = args.K, group = blockIdx.x % groups, part = blockIdx.x / groups;
  const int64_t end = min(args.tokens, (part + 1) * piece);
  const int64_t slot = group * kBackSlots + threadIdx.x / kWarp;
  BackSlot<C, KP> own{};
  own.each(slot, N, K, [&](int i, int k, int64_t at) { own.a[i][k] = args.dictionary[at]; });
  for (int64_t first = part * piece; first < end; first += kBackTokens) {
    const int count = static_cast<int>(min(end - first, int64_t{kBackTokens}));
    tile.load(args, first, count, group * kBackSlots);
    __syncthreads();
    for (int t = 0; t < count; ++t) own.take(tile, t, N);
    __syncthreads();
    for (int i = threadIdx.x; i < count * KP; i += blockDim.x) {
      const int t = i / KP, k = i % KP;
      real total = 0;
      unrolled<kBackSlots>([&](int s) { total += tile.dpi[s][t][k]; });
      if (k < K) of_pi[(group * args.tokens + first + t) * K + k] = total;
    }
  }
  own.each(slot, N, K,
           [&](int i, int k, int64_t at) { of_dictionary[part * N * N * K + at] = own.da[i][k]; });
}

// dselection = pi . (dpi - sum pi dpi), a warp a token.
__global__ void __launch_bounds__(8 * kWarp)
    pd_selection_gradient_kernel(const PdSelectBackward args, int64_t groups, const real* of_pi) {
  const int64_t token = row_of_warp(), K = args.K, at = token * K + lane_of();
  if (token >= args.tokens) return;
  const bool own = lane_of() < K;
  real dpi = 0;
  if (own)
    for (int64_t g = 0; g < groups; ++g) dpi += of_pi[g * args.tokens * K + at];
  const real pi = own ? args.pi[at] : real(0), mean = warp_sum(pi * dpi);
  if (own) args.dselection[at] = pi * (dpi - mean);
}

// visit(the candidates of a lane, K or more, as constants).
template <class Visit>
void with_sizes(int64_t N, int64_t K, const Visit& visit) {
  if (K <= 16)
    with_constant<1, 2, 4>(N <= kWarp       ? 1
                           : N <= 2 * kWarp ? 2
                                            : 4,
                           [&](auto C) { visit(C, Constant<16>()); });
  else
    with_constant<1, 2>(N <= kWarp ? 1 : 2, [&](auto C) { visit(C, Constant<32>()); });
}

}  // namespace
}  // namespace cuda

bool supports(Cuda, const PdSelect& args) {
  return !kDouble && args.K <= 32 && args.N <= (args.K <= 16 ? cuda::kMostStates : 2 * cuda::kWarp);
}

void run(Cuda cuda, const PdSelect& args) {
  const int64_t groups = cuda::ceil_div(args.N, cuda::kSelectSlots);
  const cuda::Grid grid{.blocks = cuda::ceil_div(args.tokens, cuda::kSelectTokens) * groups,
                        .threads = cuda::kSelectThreads};
  cuda::with_constant<16, 32>(args.K <= 16 ? 16 : 32, [&](auto KP) {
    cuda::start(cuda, "pd_select", cuda::pd_select_kernel<KP()>, grid, args, groups);
  });
}

void run(Cuda cuda, const PdSelectBackward& args) {
  const int64_t groups = cuda::ceil_div(args.N, cuda::kBackSlots);
  const int64_t tiles = std::max<int64_t>(1, cuda::ceil_div(args.tokens, cuda::kBackTokens));
  const int64_t tiles_of_piece = cuda::ceil_div(tiles, cuda::kBackBlocks / groups);
  const int64_t pieces = cuda::ceil_div(tiles, tiles_of_piece),
                piece = tiles_of_piece * cuda::kBackTokens;
  const cuda::Shares of_dictionary(cuda, args.ddictionary, 1, pieces, args.N * args.N * args.K);
  const Tensor of_pi(cuda.context, Shape{groups, args.tokens, args.K});
  cuda::with_sizes(args.N, args.K, [&](auto C, auto KP) {
    cuda::start(cuda, "pd_select_backward", cuda::pd_select_backward_kernel<C(), KP()>,
                {.blocks = groups * pieces, .threads = cuda::kBackSlots * cuda::kWarp}, args,
                groups, piece, of_dictionary.data(), of_pi.data());
  });
  cuda::add_shares(cuda, {&of_dictionary});
  cuda::start(cuda, "pd_selection_gradient", cuda::pd_selection_gradient_kernel,
              cuda::rows_by_warps(args.tokens), args, groups, of_pi.data());
}

}  // namespace fprnn
