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
#pragma unroll
  for (int k = 0; k < kOwn; ++k) total += x[k] * y[k];
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
#pragma unroll
    for (int i = 0; i < R; ++i) {
      inverse[i] = inverse_length(sums[i], lengths.eps);
      factor[i] = in.mixer.scale * alpha[i];
    }
#pragma unroll
    for (int j = 1; j < R; ++j)
#pragma unroll
      for (int i = 0; i < j; ++i)
        pairs[Pairs<R>::at(i, j)] = inverse[i] * inverse[j] * sums[R + Pairs<R>::at(i, j)];
  }
  // with_s: products of a vector with the s_i. met_i: that of u_i and what is left of the vector
  // when the factors before i are through, or those after it if backwards.
  __device__ __forceinline__ void meet(const real* with_s, bool backwards, real (&met)[R]) const {
#pragma unroll
    for (int i = 0; i < R; ++i) met[i] = inverse[i] * with_s[i];
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

template <int R, int W>
__global__ void __launch_bounds__(kRowThreads)
    fp_mamba_mix_forward_kernel(const FpMambaMixForward in, const Lengths lengths) {
  constexpr int kPairs = Pairs<R>::kCount, kMet = R + kPairs, kLengths = kMet + R;
  __shared__ RowSpace<kLengths + 2> space;
  const MixToken token(in);
  const int64_t first = token.row * in.D;
  OwnChannels x, e, s[R];
  RowPacks<W>::load(in.D, in.x + first, x);
  RowPacks<W>::load(in.D, in.y + first, e);
#pragma unroll
  for (int i = 0; i < R; ++i) token.load<W>(in.D, i * in.D, s[i]);
  real alpha[R];
#pragma unroll
  for (int i = 0; i < R; ++i) alpha[i] = sigmoid(token.p(R * in.D + i));

  real sums[kLengths + 2]{};
  for (int64_t n = threadIdx.x; n < in.N; n += blockDim.x) {
    const real b = lengths.unit * token.p(in.directions + n),
               c = lengths.unit * token.p(in.directions + in.N + n);
    sums[kLengths] += b * b;
    sums[kLengths + 1] += c * c;
  }
#pragma unroll
  for (int k = 0; k < kOwn; ++k) {
    e[k] = x[k] - e[k];
#pragma unroll
    for (int i = 0; i < R; ++i) s[i][k] = lengths.unit * Silu().value(s[i][k]);
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
    sums[i] = product(s[i], s[i]);
    sums[kMet + i] = product(s[i], e);
#pragma unroll
    for (int j = i + 1; j < R; ++j) sums[R + Pairs<R>::at(i, j)] = product(s[i], s[j]);
  }
  sum_row(sums, space);

  const MixFactors<R> factors(in, lengths, sums, alpha);
  real met[R];
  factors.meet(sums + kMet, false, met);
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const real amount = factors.factor[i] * met[i] * factors.inverse[i];
#pragma unroll
    for (int k = 0; k < kOwn; ++k) x[k] -= amount * s[i][k];
  }
  RowPacks<W>::store(in.D, x, in.mixed + first);
  const real of_b = in.bc_norm ? lengths.inverse(sums[kLengths]) : real(1);
  const real of_c = in.bc_norm ? lengths.inverse(sums[kLengths + 1]) : real(1);
  for (int64_t n = threadIdx.x; n < in.N; n += blockDim.x) {
    in.b[token.row * in.N + n] = of_b * token.p(in.directions + n);
    in.c[token.row * in.N + n] = of_c * token.p(in.directions + in.N + n);
  }
}

template <int R, int W>
__global__ void __launch_bounds__(kRowThreads)
    fp_mamba_mix_backward_kernel(const FpMambaMixBackward args, const Lengths lengths) {
  constexpr int kPairs = Pairs<R>::kCount, kMet = R + kPairs, kBack = kMet + R,
                kLengths = kBack + R;
  __shared__ RowSpace<kLengths + 4> space;
  const FpMambaMixForward& in = args.forward;
  const MixToken token(in);
  const int64_t first = token.row * in.D;
  OwnChannels g, e, p[R];
  {
    OwnChannels x;
    RowPacks<W>::load(in.D, in.x + first, x);
    RowPacks<W>::load(in.D, in.y + first, e);
    RowPacks<W>::load(in.D, args.dmixed + first, g);
#pragma unroll
    for (int k = 0; k < kOwn; ++k) e[k] = x[k] - e[k];
  }
#pragma unroll
  for (int i = 0; i < R; ++i) token.load<W>(in.D, i * in.D, p[i]);
  real alpha[R];
#pragma unroll
  for (int i = 0; i < R; ++i) alpha[i] = sigmoid(token.p(R * in.D + i));

  real sums[kLengths + 4]{};
  const real *db = args.db + token.row * in.N, *dc = args.dc + token.row * in.N;
  for (int64_t n = threadIdx.x; n < in.N; n += blockDim.x) {
    const real b = lengths.unit * token.p(in.directions + n),
               c = lengths.unit * token.p(in.directions + in.N + n);
    sums[kLengths] += b * b;
    sums[kLengths + 1] += c * c;
    sums[kLengths + 2] += b * db[n];
    sums[kLengths + 3] += c * dc[n];
  }
  OwnChannels s[R], slope[R];
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int k = 0; k < kOwn; ++k) {
      const real gate = sigmoid(p[i][k]);
      const real value = at_least(p[i][k], -Silu::kMost) * gate;
      s[i][k] = lengths.unit * value;
      slope[i][k] = gate + value * (1 - gate);
    }
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
    sums[i] = product(s[i], s[i]);
    sums[kMet + i] = product(s[i], e);
    sums[kBack + i] = product(s[i], g);
#pragma unroll
    for (int j = i + 1; j < R; ++j) sums[R + Pairs<R>::at(i, j)] = product(s[i], s[j]);
  }
  sum_row(sums, space);

  const MixFactors<R> factors(in, lengths, sums, alpha);
  real met[R], back[R];
  factors.meet(sums + kMet, false, met);
  factors.meet(sums + kBack, true, back);
  // g . (what is left of Q e) from the last factor to the first: e after all of them, then before
  // each.
  OwnChannels dx;
#pragma unroll
  for (int k = 0; k < kOwn; ++k) dx[k] = g[k];
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const real amount = factors.factor[i] * met[i] * factors.inverse[i];
    if (factors.in_order)
#pragma unroll
      for (int k = 0; k < kOwn; ++k) e[k] -= amount * s[i][k];
  }
  const MixGradient to(args, token);
#pragma unroll
  for (int i = R - 1; i >= 0; --i) {
    const real inverse = factors.inverse[i], factor = factors.factor[i];
    if (factors.in_order)
#pragma unroll
      for (int k = 0; k < kOwn; ++k) e[k] += factor * met[i] * inverse * s[i][k];
    // u . du = -2 factor met back, with u a unit vector.
    const real along = inverse * normal_part(inverse, lengths.eps, -2 * factor * met[i] * back[i]);
    RowPacks<W>::each(in.D, [&](int k, int d) {
      Pack<W> dp;
#pragma unroll
      for (int j = 0; j < W; ++j) {
        const int at = k * W + j;
        const real meets = factors.in_order ? dx[at] : g[at];
        const real du = -factor * (met[i] * meets + back[i] * e[at]);
        dp.v[j] = lengths.unit * inverse * (du - along * s[i][at]) * slope[i][at];
      }
      to.give<W>(i * in.D + d, dp);
    });
#pragma unroll
    for (int k = 0; k < kOwn; ++k) dx[k] -= factor * back[i] * inverse * s[i][k];
    if (threadIdx.x == 0)
      to.give(R * in.D + i, -in.mixer.scale * met[i] * back[i] * alpha[i] * (1 - alpha[i]));
  }
  if (args.dx != nullptr) RowPacks<W>::store(in.D, dx, args.dx + first);
  if (args.dy != nullptr) {
#pragma unroll
    for (int k = 0; k < kOwn; ++k) g[k] -= dx[k];
    RowPacks<W>::store(in.D, g, args.dy + first);
  }
  const int thread = threadIdx.x, threads = blockDim.x;
  const auto number = [&](int64_t j) { return token.p(j); };
  direction_gradient(in, lengths, number, in.directions, db, sums[kLengths], sums[kLengths + 2], to,
                     thread, threads);
  direction_gradient(in, lengths, number, in.directions + in.N, dc, sums[kLengths + 1],
                     sums[kLengths + 3], to, thread, threads);
  clear_rest(in, R * (in.D + 1), to, thread, threads);
}

// visit(rank, width) as constants.
template <int W, class Visit>
void with_rank(int64_t rank, const Visit& visit) {
  const std::integral_constant<int, W> width;
  if (rank == 1) return visit(std::integral_constant<int, 1>(), width);
  if (rank == 2) return visit(std::integral_constant<int, 2>(), width);
  if (rank == 3) return visit(std::integral_constant<int, 3>(), width);
  visit(std::integral_constant<int, kRanks>(), width);
}
template <class Visit>
void with_mix(const FpMambaMixForward& in, bool aligned, const Visit& visit) {
  if (aligned && in.D % Quad::kCount == 0 && in.P % Quad::kCount == 0)
    with_rank<Quad::kCount>(in.mixer.rank, visit);
  else
    with_rank<1>(in.mixer.rank, visit);
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
  const bool aligned =
      quads_aligned(args.projected, args.from_y, args.from_previous, args.x, args.y, args.mixed);
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
      quads_aligned(in.projected, in.from_y, in.from_previous, in.x, in.y, args.dmixed) &&
      quads_aligned(args.dprojected, args.dfrom_y, args.dfrom_previous, args.dx, args.dy);
  with_mix(in, aligned, [&](auto rank, auto width) {
    start(cuda, "fp_mamba_mix_backward", fp_mamba_mix_backward_kernel<rank(), width()>,
          grid_for(in), args, Lengths(in.eps));
  });
}

}  // namespace fprnn
