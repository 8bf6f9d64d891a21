// A token from its projections to the mixed channels, b and c (ops/fp_mamba_mix.h): where its
// numbers are, and where their gradients go.
#pragma once

#include <fprnn/core/vector.h>
#include <fprnn/cuda/fp_mamba_token.cuh>
#include <fprnn/cuda/row.cuh>
#include <fprnn/ops/fp_mamba_mix.h>

namespace fprnn::cuda {

// A token's place, and p_t from its two parts.
struct MixToken {
  int64_t b, t, row;
  const real *projected, *projected_y;  // the second may be null

  template <class Forward>
  __device__ explicit MixToken(const Forward& in, int64_t row = blockIdx.x)
      : b(row / in.T),
        t(row % in.T),
        row(row),
        projected(in.projected + row * in.P),
        projected_y(nullptr) {
    if (t > 0 && in.projected_y != nullptr) projected_y = in.projected_y + (row - 1) * in.P;
    if (t == 0 && in.projected_previous != nullptr) projected_y = in.projected_previous + b * in.P;
  }
  __device__ real p(int64_t j) const {
    return projected_y == nullptr ? projected[j] : projected[j] + projected_y[j];
  }
  // D of them from `begin` on.
  template <int W>
  __device__ __forceinline__ void load(int64_t D, int64_t begin, OwnChannels& x) const {
    RowPacks<W>::load(D, projected + begin, x);
    if (projected_y == nullptr) return;
    OwnChannels other;
    RowPacks<W>::load(D, projected_y + begin, other);
    unrolled<kOwn>([&](int k) { x[k] += other[k]; });
  }
};

// Where the gradient of p_t goes: to projected, and to projected_y a row before or, at the first step, to
// projected_previous. No step makes the last row of projected_y, so the last one clears it.
struct MixGradient {
  real *projected, *projected_y, *last;  // the second and third may be null

  template <class Backward>
  __device__ MixGradient(const Backward& args, const MixToken& token)
      : projected(args.dprojected + token.row * args.forward.P),
        projected_y(nullptr),
        last(nullptr) {
    const int64_t P = args.forward.P;
    if (token.t > 0 && args.dprojected_y != nullptr)
      projected_y = args.dprojected_y + (token.row - 1) * P;
    if (token.t == 0 && args.dprojected_previous != nullptr)
      projected_y = args.dprojected_previous + token.b * P;
    if (token.t == args.forward.T - 1 && args.dprojected_y != nullptr)
      last = args.dprojected_y + token.row * P;
  }
  template <int W>
  __device__ __forceinline__ void give(int64_t j, const Pack<W>& dp) const {
    *packs<W>(projected + j) = dp;
    if (projected_y != nullptr) *packs<W>(projected_y + j) = dp;
    if (last != nullptr) *packs<W>(last + j) = {};
  }
  __device__ __forceinline__ void give(int64_t j, real dp) const { give<1>(j, {dp}); }
};

// What number n of b and of c adds to their squares in units of Lengths and, unless null, to their
// products with their cotangents.
template <class Forward, class P>
__device__ __forceinline__ void add_direction(const Forward& in, const Lengths& lengths, const P& p,
                                              int64_t n, const real* db, const real* dc,
                                              real* sums) {
  const real b = lengths.unit * p(in.bc_offset + n), c = lengths.unit * p(in.bc_offset + in.N + n);
  sums[0] += b * b;
  sums[1] += c * c;
  if (db == nullptr) return;
  sums[2] += b * db[n];
  sums[3] += c * dc[n];
}

// b and c of a token from these squares.
template <class Forward, class P>
__device__ __forceinline__ void write_directions(const Forward& in, const Lengths& lengths,
                                                 const P& p, int64_t row, const real* squares,
                                                 int thread, int threads) {
  const real of_b = in.bc_norm ? lengths.inverse(squares[0]) : real(1);
  const real of_c = in.bc_norm ? lengths.inverse(squares[1]) : real(1);
  for (int64_t n = thread; n < in.N; n += threads) {
    in.b[row * in.N + n] = of_b * p(in.bc_offset + n);
    in.c[row * in.N + n] = of_c * p(in.bc_offset + in.N + n);
  }
}

// What b or c has of the gradient: x (N) from `begin` of p(j), with the sums |x|^2 and x . dx in units of
// Lengths.
template <class Forward, class P>
__device__ __forceinline__ void direction_gradient(const Forward& in, const Lengths& lengths,
                                                   const P& p, int64_t begin, const real* d,
                                                   real squares, real along, const MixGradient& to,
                                                   int thread, int threads) {
  const real of_units = in.bc_norm ? inverse_length(squares, lengths.eps) : real(1);
  const real inverse = in.bc_norm ? lengths.unit * of_units : real(1);
  const real pull =
      in.bc_norm ? inverse * normal_part(of_units, lengths.eps, of_units * along) : real(0);
  for (int64_t n = thread; n < in.N; n += threads)
    to.give(begin + n, inverse * (d[n] - pull * p(begin + n)));
}

// The same of both, from the sums of add_direction.
template <class Forward, class P>
__device__ __forceinline__ void direction_gradients(const Forward& in, const Lengths& lengths,
                                                    const P& p, const real* db, const real* dc,
                                                    const real* sums, const MixGradient& to,
                                                    int thread, int threads) {
  direction_gradient(in, lengths, p, in.bc_offset, db, sums[0], sums[2], to, thread, threads);
  direction_gradient(in, lengths, p, in.bc_offset + in.N, dc, sums[1], sums[3], to, thread,
                     threads);
}

// Numbers of p that nothing is made of: behind those of the mixer, and behind c.
template <class Forward>
__device__ __forceinline__ void clear_rest(const Forward& in, int64_t outputs,
                                           const MixGradient& to, int thread, int threads) {
  for (int64_t j = outputs + thread; j < in.bc_offset; j += threads) to.give(j, 0);
  for (int64_t j = in.bc_offset + 2 * in.N + thread; j < in.P; j += threads) to.give(j, 0);
}

// Where there are no steps, nothing comes from the one before.
template <class Backward>
void clear_without_steps(Cuda cuda, const Backward& args) {
  if (args.forward.T == 0 && args.dprojected_previous != nullptr)
    run(cuda,
        Fill{
            .out = args.dprojected_previous, .count = args.forward.B * args.forward.P, .value = 0});
}

}  // namespace fprnn::cuda
