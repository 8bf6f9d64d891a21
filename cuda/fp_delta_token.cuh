// What the sweeps of FP-DeltaNet (ops/fp_delta_sweep.h) have of a token, by a team: its keys and
// queries in shared memory, and what each head reads with.
#pragma once

#include <fprnn/cuda/fp_mamba_token.cuh>
#include <fprnn/ops/fp_delta_sweep.h>

namespace fprnn::cuda {

// So many reals that what lies behind them is at a multiple of 16 bytes.
FPRNN_HOST_DEVICE inline int64_t whole_quads(int64_t reals) {
  return (reals + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
}

// Where in shared memory these are.
struct DeltaPlaces {
  real *keys, *queries;                     // (H K), normalised
  real *key_inverse, *query_inverse, *met;  // (H): what they were multiplied by, and k . q
  template <class Sweep>
  FPRNN_HOST_DEVICE static int64_t reals(const Sweep& in) {
    return 2 * in.H * in.K + 3 * in.H;
  }
  template <class Sweep>
  __device__ __forceinline__ DeltaPlaces(const Sweep& in, real* space)
      : keys(space),
        queries(keys + in.H * in.K),
        key_inverse(queries + in.H * in.K),
        query_inverse(key_inverse + in.H),
        met(query_inverse + in.H) {}
};

// Keys and queries from p(j), j counted from the first of the keys. The team has met after it.
template <class T, class Sweep, class P>
__device__ __forceinline__ void make_directions(const T& team, const Sweep& in, const P& p,
                                                const DeltaPlaces& to) {
  using Index = typename T::Index;
  const Lengths lengths(in.eps);
  const auto H = static_cast<Index>(in.H), K = static_cast<Index>(in.K);
  team.each(2 * H * K, [&](auto i) { to.keys[i] = lengths.unit * p(i); });
  team.sync();
  // Rows of both: |k|^2, |q|^2, k . q of each head.
  team.row_sums(
      3 * H, K,
      [&](auto row, auto j) {
        const auto head = row % H, which = row / H;
        const real k = to.keys[head * K + j], q = to.queries[head * K + j];
        return which == 0 ? k * k : which == 1 ? q * q : k * q;
      },
      [&](auto row, real sum) { to.key_inverse[row] = sum; });
  team.sync();
  team.each(H, [&](auto head) {
    const real of_key = inverse_length(to.key_inverse[head], lengths.eps);
    const real of_query = inverse_length(to.query_inverse[head], lengths.eps);
    to.met[head] *= of_key * of_query;
    to.key_inverse[head] = of_key;
    to.query_inverse[head] = of_query;
  });
  team.sync();
  team.each(H * K, [&](auto i) {
    to.keys[i] *= to.key_inverse[i / K];
    to.queries[i] *= to.query_inverse[i / K];
  });
  team.sync();
  team.each(2 * H, [&](auto i) { to.key_inverse[i] *= lengths.unit; });
}

// exp(g) of a token and head.
template <class Sweep>
__device__ __forceinline__ real decay_of(const Sweep& in, int64_t row, int64_t head) {
  return in.g == nullptr ? real(1) : ::exp(in.g[row * in.H + head]);
}
// Of q and with it of read and gain.
template <class Sweep>
__device__ __forceinline__ real query_scale(const Sweep& in) {
  return 1 / square_root(static_cast<real>(in.K));
}

// visit(k, d, head, at) for the thread's channels: at is where channel d's column of a head's matrix
// (K, V) begins, whose rows are V apart.
template <class Channels, class Sweep, class Visit>
__device__ __forceinline__ void each_column(const Channels& channels, const Sweep& in,
                                            const Visit& visit) {
  channels.each([&](int k, auto d) {
    const int channel = static_cast<int>(d), V = static_cast<int>(in.V), head = channel / V;
    visit(k, channel, head, head * static_cast<int>(in.K) * V + channel - head * V);
  });
}

}  // namespace fprnn::cuda
