// A block takes a token and has its rows in registers (cuda/row.cuh). With s_i = SiLU(p_i), u_i = s_i / n_i
// and e = x - y all that a token needs of inner products are those of s_1 .. s_r, e and, backward,
// the cotangent g of what is mixed: the block waits for them once, together with the lengths of b
// and c, and the rest is numbers, the same in every thread (ops/fp_mamba_mix.md). p is read once
// from either part, and its gradient written where both parts have it. Bound by memory.
//
// For a Kronecker product the team of cuda/kronecker_mix.cu takes a token, or cuda/fp_mamba_numbers.cu
// makes only what p says.
#include <fprnn/core/vector.h>
#include <fprnn/cuda/kronecker_mix.cuh>
#include <fprnn/cuda/mix_token.cuh>
#include <fprnn/ops/elementwise_functions.h>
#include <fprnn/ops/fp_mamba_mix.h>

namespace fprnn {

namespace cuda {
namespace {

constexpr int kRanks = 4;  // 1 to 4

// Products of the s_i with each other, i < j, one after the other.
template <int R>
struct Pairs {
  static constexpr int kCount = R * (R - 1) / 2;
  static constexpr __device__ int at(int i, int j) {
    return i < j ? j * (j - 1) / 2 + i : i * (i - 1) / 2 + j;
  }
};

__device__ __forceinline__ real product(const OwnChannels& x, const OwnChannels& y) {
  real total = 0;
  unrolled<kOwn>([&](int k) { total += x[k] * y[k]; });
  return total;
}

// The factors of a token as far as numbers say, with s_i in units of Lengths: u_i = inverse_i s_i, and
// what it meets of a vector whose products with the s_i are known.
template <int R>
struct MixFactors {
  real inverse[R], factor[R];  // scale alpha
  real pairs[Pairs<R>::kCount + 1];
  bool in_order;

  // sums: R squares of the s_i, then the products of pairs.
  __device__ MixFactors(const FpMambaMixForward& in, const Lengths& lengths, const real* sums,
                        const real (&alpha)[R])
      : in_order(in.mixer.in_order) {
    unrolled<R>([&](int i) {
      inverse[i] = inverse_length(sums[i], lengths.eps);
      factor[i] = in.mixer.scale * alpha[i];
    });
#pragma unroll
    for (int j = 1; j < R; ++j)
#pragma unroll
      for (int i = 0; i < j; ++i)
        pairs[Pairs<R>::at(i, j)] = inverse[i] * inverse[j] * sums[R + Pairs<R>::at(i, j)];
  }
  // with_s: products of a vector with the s_i. met_i: that of u_i and what is left of the vector
  // when the factors before i are through, or those after it if backwards.
  __device__ __forceinline__ void meet(const real* with_s, bool backwards, real (&met)[R]) const {
    unrolled<R>([&](int i) { met[i] = inverse[i] * with_s[i]; });
    if (!in_order) return;
#pragma unroll
    for (int k = 1; k < R; ++k) {
#pragma unroll
      for (int l = 0; l < k; ++l) {
        if (backwards) {
          const int i = R - 1 - k, j = R - 1 - l;
          met[i] -= factor[j] * met[j] * pairs[Pairs<R>::at(i, j)];
        } else {
          met[k] -= factor[l] * met[l] * pairs[Pairs<R>::at(l, k)];
        }
      }
    }
  }
};

// Where the sums of a token are: R squares of the s_i, the products of pairs, those of the s_i with
// e and, backward, with g, and then those of b and c.
template <int R, bool kBackward>
struct MixSums {
  static constexpr int kMet = R + Pairs<R>::kCount, kBack = kMet + R,
                       kLengths = kBackward ? kBack + R : kBack,
                       kCount = kLengths + (kBackward ? 4 : 2);
};

// The numbers of the factors: p_i, of which s_i is made, and alpha.
template <int R, int W>
__device__ __forceinline__ void load_numbers(const FpMambaMixForward& in, const MixToken& token,
                                             OwnChannels (&p)[R], real (&alpha)[R]) {
  unrolled<R>([&](int i) { token.load<W>(in.D, i * in.D, p[i]); });
  unrolled<R>([&](int i) { alpha[i] = sigmoid(token.p(R * in.D + i)); });
}

// The thread's parts of the products of the s_i with each other and with e.
template <int R>
__device__ __forceinline__ void add_products(const OwnChannels (&s)[R], const OwnChannels& e,
                                             real* sums) {
#pragma unroll
  for (int i = 0; i < R; ++i) {
    sums[i] = product(s[i], s[i]);
    sums[R + Pairs<R>::kCount + i] = product(s[i], e);
#pragma unroll
    for (int j = i + 1; j < R; ++j) sums[R + Pairs<R>::at(i, j)] = product(s[i], s[j]);
  }
}

template <int R, int W>
__global__ void __launch_bounds__(kRowThreads)
    fp_mamba_mix_forward_kernel(const FpMambaMixForward in, const Lengths lengths) {
  using At = MixSums<R, false>;
  __shared__ RowSpace<At::kCount> space;
  const MixToken token(in);
  const auto p = [&](int64_t j) { return token.p(j); };
  const int64_t first = token.row * in.D;
  OwnChannels x, e, s[R];
  RowPacks<W>::load(in.D, in.x + first, x);
  RowPacks<W>::load(in.D, in.y + first, e);
  real alpha[R];
  load_numbers<R, W>(in, token, s, alpha);

  real sums[At::kCount]{};
  for (int64_t n = threadIdx.x; n < in.N; n += blockDim.x)
    add_direction(in, lengths, p, n, nullptr, nullptr, sums + At::kLengths);
  unrolled<kOwn>([&](int k) {
    e[k] = x[k] - e[k];
    unrolled<R>([&](int i) { s[i][k] = lengths.unit * Silu().value(s[i][k]); });
  });
  add_products(s, e, sums);
  sum_row(sums, space);

  const MixFactors<R> factors(in, lengths, sums, alpha);
  real met[R];
  factors.meet(sums + At::kMet, false, met);
  unrolled<R>([&](int i) {
    const real amount = factors.factor[i] * met[i] * factors.inverse[i];
    unrolled<kOwn>([&](int k) { x[k] -= amount * s[i][k]; });
  });
  RowPacks<W>::store(in.D, x, in.mixed + first);
  write_directions(in, lengths, p, token.row, sums + At::kLengths, threadIdx.x, blockDim.x);
}

// The gradient of the factors' numbers, from the last factor to the first. e = x - y is used up, and
// dx becomes the cotangent of x, from g, that of what is mixed.
template <int R, int W>
__device__ __forceinline__ void factor_gradients(
    const FpMambaMixForward& in, const Lengths& lengths, const MixFactors<R>& factors,
    const real (&alpha)[R], const real (&met)[R], const real (&back)[R], const OwnChannels (&s)[R],
    const OwnChannels (&slope)[R], const OwnChannels& g, OwnChannels& e, OwnChannels& dx,
    const MixGradient& to) {
  // e after all factors, then before each.
  unrolled<kOwn>([&](int k) { dx[k] = g[k]; });
  unrolled<R>([&](int i) {
    const real amount = factors.factor[i] * met[i] * factors.inverse[i];
    if (factors.in_order) unrolled<kOwn>([&](int k) { e[k] -= amount * s[i][k]; });
  });
#pragma unroll
  for (int i = R - 1; i >= 0; --i) {
    const real inverse = factors.inverse[i], factor = factors.factor[i];
    if (factors.in_order)
      unrolled<kOwn>([&](int k) { e[k] += factor * met[i] * inverse * s[i][k]; });
    // u . du = -2 factor met back, with u a unit vector.
    const real along = inverse * normal_part(inverse, lengths.eps, -2 * factor * met[i] * back[i]);
    RowPacks<W>::each(in.D, [&](int k, int d) {
      Pack<W> dp;
      unrolled<W>([&](int j) {
        const int at = k * W + j;
        const real meets = factors.in_order ? dx[at] : g[at];
        const real du = -factor * (met[i] * meets + back[i] * e[at]);
        dp.v[j] = lengths.unit * inverse * (du - along * s[i][at]) * slope[i][at];
      });
      to.give<W>(i * in.D + d, dp);
    });
    unrolled<kOwn>([&](int k) { dx[k] -= factor * back[i] * inverse * s[i][k]; });
    if (threadIdx.x == 0)
      to.give(R * in.D + i, -in.mixer.scale * met[i] * back[i] * alpha[i] * (1 - alpha[i]));
  }
}

template <int R, int W>
__global__ void __launch_bounds__(kRowThreads)
    fp_mamba_mix_backward_kernel(const FpMambaMixBackward args, const Lengths lengths) {
  using At = MixSums<R, true>;
  __shared__ RowSpace<At::kCount> space;
  const FpMambaMixForward& in = args.forward;
  const MixToken token(in);
  const auto p = [&](int64_t j) { return token.p(j); };
  const int64_t first = token.row * in.D;
  OwnChannels g, e, s[R], slope[R];
  {
    OwnChannels x;
    RowPacks<W>::load(in.D, in.x + first, x);
    RowPacks<W>::load(in.D, in.y + first, e);
    RowPacks<W>::load(in.D, args.dmixed + first, g);
    unrolled<kOwn>([&](int k) { e[k] = x[k] - e[k]; });
  }
  real alpha[R];
  load_numbers<R, W>(in, token, s, alpha);

  real sums[At::kCount]{};
  const real *db = args.db + token.row * in.N, *dc = args.dc + token.row * in.N;
  for (int64_t n = threadIdx.x; n < in.N; n += blockDim.x)
    add_direction(in, lengths, p, n, db, dc, sums + At::kLengths);
  unrolled<R>([&](int i) {
    unrolled<kOwn>([&](int k) {
      const real gate = sigmoid(s[i][k]);
      const real value = at_least(s[i][k], -Silu::kMost) * gate;
      s[i][k] = lengths.unit * value;
      slope[i][k] = gate + value * (1 - gate);
    });
  });
  add_products(s, e, sums);
  unrolled<R>([&](int i) { sums[At::kBack + i] = product(s[i], g); });
  sum_row(sums, space);

  const MixFactors<R> factors(in, lengths, sums, alpha);
  real met[R], back[R];
  factors.meet(sums + At::kMet, false, met);
  factors.meet(sums + At::kBack, true, back);
  OwnChannels dx;
  const MixGradient to(args, token);
  factor_gradients<R, W>(in, lengths, factors, alpha, met, back, s, slope, g, e, dx, to);
  if (args.dx != nullptr) RowPacks<W>::store(in.D, dx, args.dx + first);
  if (args.dy != nullptr) {
    unrolled<kOwn>([&](int k) { g[k] -= dx[k]; });
    RowPacks<W>::store(in.D, g, args.dy + first);
  }
  direction_gradients(in, lengths, p, db, dc, sums + At::kLengths, to, threadIdx.x, blockDim.x);
  clear_rest(in, R * (in.D + 1), to, threadIdx.x, blockDim.x);
}

// visit(rank, width) as constants.
template <class Visit>
void with_mix(const FpMambaMixForward& in, bool aligned, const Visit& visit) {
  with_width(in.D, aligned && in.P % Quad::kCount == 0, [&](auto width) {
    with_constant<1, 2, 3, kRanks>(in.mixer.rank, [&](auto rank) { visit(rank, width); });
  });
}
Grid grid_for(const FpMambaMixForward& in) {
  return {.blocks = in.B * in.T, .threads = row_threads(in.D)};
}

}  // namespace
}  // namespace cuda

using namespace cuda;

bool supports(Cuda cuda, const FpMambaMixForward& args) {
  if (args.mixer.rank == 0) return mixes_in_teams(cuda, args);
  return args.mixer.rank >= 1 && args.mixer.rank <= kRanks && args.D <= kMostOfRow;
}

void run(Cuda cuda, const FpMambaMixForward& args) {
  if (args.mixer.rank == 0) return mix_in_teams(cuda, args);
  const bool aligned = quads_aligned(args.projected, args.projected_y, args.projected_previous,
                                     args.x, args.y, args.mixed);
  with_mix(args, aligned, [&](auto rank, auto width) {
    start(cuda, "fp_mamba_mix_forward", fp_mamba_mix_forward_kernel<rank(), width()>,
          grid_for(args), args, Lengths(args.eps));
  });
}

void run(Cuda cuda, const FpMambaMixBackward& args) {
  const FpMambaMixForward& in = args.forward;
  clear_without_steps(cuda, args);
  if (in.mixer.rank == 0) return mix_in_teams(cuda, args);
  const bool aligned =
      quads_aligned(in.projected, in.projected_y, in.projected_previous, in.x, in.y, args.dmixed) &&
      quads_aligned(args.dprojected, args.dprojected_y, args.dprojected_previous, args.dx, args.dy);
  with_mix(in, aligned, [&](auto rank, auto width) {
    start(cuda, "fp_mamba_mix_backward", fp_mamba_mix_backward_kernel<rank(), width()>,
          grid_for(in), args, Lengths(in.eps));
  });
}

}  // namespace fprnn
