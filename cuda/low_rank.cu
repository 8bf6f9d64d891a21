// Mixers of rank r (ops/low_rank.h). A warp takes a token and has its vectors in registers, in packs of
// 16 bytes where addresses allow. Each row of u is read once, while the sums of the row before it
// are taken. Above 1024 channels (512 where addresses do not allow packs) a block takes a token,
// and its threads go over their channels in memory again for each factor. Cost: (r + 2) D elements
// moved forward, (2 r + 3) D backward; bound by memory.
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/low_rank.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kTokens = 4;         // of a block: a warp each
constexpr int kLongThreads = 256;  // of a block that takes one
// Channels that a warp has registers for; the addresses of packs of one take some too.
constexpr int64_t kMostInPacks = 32 * kWarp, kMostOfOne = 16 * kWarp;

// A lane's part of a vector: packs lane, lane + 32, ..., which are 0 beyond the last channel.
template <int P, int W>
struct Row {
  Pack<W> x[P];

  template <class Visit>
  static __device__ __forceinline__ void each(int64_t D, const Visit& visit) {
    unrolled<P>([&](int p) {
      const int d = (static_cast<int>(threadIdx.x) % kWarp + p * kWarp) * W;
      if (d < D) visit(p, d);
    });
  }
  __device__ __forceinline__ void load(int64_t D, const real* from) {
    unrolled<P>([&](int p) { x[p] = {}; });
    each(D, [&](int p, int d) { x[p] = *packs<W>(from + d); });
  }
  __device__ __forceinline__ void store(int64_t D, real* to) const {
    each(D, [&](int p, int d) { *packs<W>(to + d) = x[p]; });
  }
};

template <int P, int W>
__device__ __forceinline__ real dot(const Row<P, W>& a, const Row<P, W>& b) {
  real total = 0;
  unrolled<P>([&](int p) { unrolled<W>([&](int j) { total += a.x[p].v[j] * b.x[p].v[j]; }); });
  return warp_sum(total);
}

template <int P, int W, bool kInOrder>
__global__ void __launch_bounds__(kTokens* kWarp) low_rank_forward_kernel(LowRankForward args) {
  const int64_t token = row_of_warp<kTokens>(), D = args.D, first = token * args.r;
  if (token >= args.tokens) return;
  Row<P, W> y, next;
  y.load(D, args.v + token * D);
  if (args.r > 0) next.load(D, args.u + first * D);
  const Row<P, W> v = y;
  for (int64_t i = 0; i < args.r; ++i) {
    const Row<P, W> u = next;
    if (i + 1 < args.r) next.load(D, args.u + (first + i + 1) * D);
    const real factor = args.scale * args.alpha[first + i];
    const real met = dot(u, kInOrder ? y : v);
    unrolled<P>(
        [&](int p) { unrolled<W>([&](int j) { y.x[p].v[j] -= factor * met * u.x[p].v[j]; }); });
    if (threadIdx.x % kWarp == 0) args.dots[first + i] = met;
  }
  y.store(D, args.y + token * D);
}

// One factor of backward (ops/low_rank_kernel.cpp) at one channel.
struct FactorBackward {
  real a, s, q, undo;
  // u and g of the factor; v becomes what it met, and dv loses its part.
  __device__ __forceinline__ real du(real u, real g, real& v, real& dv) const {
    v += undo * u;
    dv -= a * q * u;
    return -a * (s * g + q * v);
  }
};

template <int P, int W, bool kInOrder>
__global__ void __launch_bounds__(kTokens* kWarp) low_rank_backward_kernel(LowRankBackward args) {
  const int64_t token = row_of_warp<kTokens>(), D = args.D, first = token * args.r;
  if (token >= args.tokens) return;
  Row<P, W> v, dv, next;
  v.load(D, args.kept + token * D);
  dv.load(D, args.dy + token * D);
  if (args.r > 0) next.load(D, args.u + (first + args.r - 1) * D);
  const Row<P, W> dy = dv;
  for (int64_t i = first + args.r - 1; i >= first; --i) {
    const Row<P, W> u = next;
    if (i > first) next.load(D, args.u + (i - 1) * D);
    const real a = args.scale * args.alpha[i], s = args.dots[i];
    const real q = dot(u, kInOrder ? dv : dy);
    const FactorBackward factor{a, s, q, kInOrder ? a * s : real(0)};
    Row<P, W>::each(D, [&](int p, int d) {
      Pack<W> du;
      unrolled<W>([&](int j) {
        const real g = (kInOrder ? dv : dy).x[p].v[j];
        du.v[j] = factor.du(u.x[p].v[j], g, v.x[p].v[j], dv.x[p].v[j]);
      });
      *packs<W>(args.du + i * D + d) = du;
    });
    if (threadIdx.x % kWarp == 0) args.dalpha[i] = -args.scale * s * q;
  }
  dv.store(D, args.dv + token * D);
}

// A block a token. A thread meets only its own channels, so nothing but sums is waited for.
template <class Visit>
__device__ __forceinline__ void each_of_block(int64_t D, const Visit& visit) {
  for (int64_t d = threadIdx.x; d < D; d += kLongThreads) visit(d);
}
__device__ __forceinline__ real block_dot(int64_t D, const real* a, const real* b, real* shared) {
  real total = 0;
  each_of_block(D, [&](int64_t d) { total += a[d] * b[d]; });
  return block_sum(total, shared);
}

__global__ void __launch_bounds__(kLongThreads) low_rank_forward_long_kernel(LowRankForward args) {
  __shared__ real shared[kWarp];
  const int64_t token = blockIdx.x, D = args.D;
  const real* v = args.v + token * D;
  real* y = args.y + token * D;
  each_of_block(D, [&](int64_t d) { y[d] = v[d]; });
  for (int64_t i = token * args.r; i < (token + 1) * args.r; ++i) {
    const real* u = args.u + i * D;
    const real met = block_dot(D, u, args.in_order ? y : v, shared);
    const real amount = args.scale * args.alpha[i] * met;
    each_of_block(D, [&](int64_t d) { y[d] -= amount * u[d]; });
    if (threadIdx.x == 0) args.dots[i] = met;
  }
}

// What the factors met lies in the first row of du, which is complete only after the last turn.
__global__ void __launch_bounds__(kLongThreads)
    low_rank_backward_long_kernel(LowRankBackward args) {
  __shared__ real shared[kWarp];
  const int64_t token = blockIdx.x, D = args.D, first = token * args.r;
  const real* kept = args.kept + token * D;
  const real* dy = args.dy + token * D;
  real* dv = args.dv + token * D;
  real* met = args.du + first * D;
  each_of_block(D, [&](int64_t d) {
    dv[d] = dy[d];
    if (args.r > 0) met[d] = kept[d];
  });
  for (int64_t i = first + args.r - 1; i >= first; --i) {
    const real* u = args.u + i * D;
    const real* g = args.in_order ? dv : dy;
    const real a = args.scale * args.alpha[i], s = args.dots[i];
    const real q = block_dot(D, u, g, shared);
    const FactorBackward factor{a, s, q, args.in_order ? a * s : real(0)};
    each_of_block(D, [&](int64_t d) {
      real v = met[d], back = dv[d];
      const real du = factor.du(u[d], g[d], v, back);
      dv[d] = back;
      met[d] = v;
      args.du[i * D + d] = du;
    });
    if (threadIdx.x == 0) args.dalpha[i] = -args.scale * s * q;
  }
}

// visit(packs in a lane, their width, in_order) as constants; false where D is too large for a
// warp.
template <int C, int W, class Visit>
bool with_order(bool in_order, const Visit& visit) {
  const Constant<C / W> count;
  const Constant<W> width;
  if (in_order)
    visit(count, width, std::true_type());
  else
    visit(count, width, std::false_type());
  return true;
}
template <int W, class Args, class Visit>
bool with_channels(const Args& args, const Visit& visit) {
  if (args.D <= 4 * kWarp) return with_order<4, W>(args.in_order, visit);
  if (args.D <= 8 * kWarp) return with_order<8, W>(args.in_order, visit);
  if (args.D <= kMostOfOne) return with_order<16, W>(args.in_order, visit);
  if constexpr (W == 4) {
    if (args.D <= 24 * kWarp) return with_order<24, W>(args.in_order, visit);
    if (args.D <= kMostInPacks) return with_order<32, W>(args.in_order, visit);
  }
  return false;
}
template <class Args, class Visit>
bool in_warps(const Args& args, bool aligned, const Visit& visit) {
  if (args.D % Quad::kCount == 0 && aligned) return with_channels<Quad::kCount>(args, visit);
  return with_channels<1>(args, visit);
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const LowRankForward& args) {
  const bool aligned = quads_aligned(args.u, args.v, args.y);
  const bool done = in_warps(args, aligned, [&](auto count, auto width, auto order) {
    constexpr int P = decltype(count)::value, W = decltype(width)::value;
    start(cuda, "low_rank_forward", low_rank_forward_kernel<P, W, decltype(order)::value>,
          rows_by_warps<kTokens>(args.tokens), args);
  });
  if (!done)
    start(cuda, "low_rank_forward", low_rank_forward_long_kernel,
          {.blocks = args.tokens, .threads = kLongThreads}, args);
}

void run(Cuda cuda, const LowRankBackward& args) {
  const bool aligned = quads_aligned(args.u, args.kept, args.dy, args.du, args.dv);
  const bool done = in_warps(args, aligned, [&](auto count, auto width, auto order) {
    constexpr int P = decltype(count)::value, W = decltype(width)::value;
    start(cuda, "low_rank_backward", low_rank_backward_kernel<P, W, decltype(order)::value>,
          rows_by_warps<kTokens>(args.tokens), args);
  });
  if (!done)
    start(cuda, "low_rank_backward", low_rank_backward_long_kernel,
          {.blocks = args.tokens, .threads = kLongThreads}, args);
}

}  // namespace fprnn
