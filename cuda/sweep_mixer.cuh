// The mixers of a sweep's token, by a team: Q and its transpose, the local equation and its
// adjoint, and the gradient of the numbers that Q is computed from. All have the same functions, so
// a step's kernel takes the mixer as a type. LowRankMixer lives in registers, KroneckerMixer
// (cuda/kronecker_mixer.cuh) in registers and in space() reals of shared memory a team. T is the
// team, C the number of channels of a thread.
#pragma once

#include <fprnn/cuda/kronecker_mixer.cuh>
#include <fprnn/ops/sweep_mixer.h>

namespace fprnn::cuda {

// Of a sweep's local equations.
template <class Sweep>
FPRNN_HOST_DEVICE inline LocalParameters local_parameters(const Sweep& in, bool normalised,
                                                          bool centred) {
  return {.D = in.D,
          .scale = in.mixer.scale,
          .in_order = in.mixer.in_order,
          .normalised = normalised,
          .centred = centred,
          .eps = in.eps,
          .tolerance = in.tolerance,
          .max_iterations = in.max_iterations};
}

template <int R_, int W, int C_>
struct LowRankMixer {
  using T = Team<W>;
  static constexpr int R = R_, C = C_;
  static constexpr int kSequences = 4;  // of a block, if it keeps them
  static int64_t space(const SweepMixer&, bool) { return 0; }

  const T& team;
  const SweepMixer& mixer;
  int64_t D;
  real u[R][C], alpha[R], inverse[R];

  // p(j): the R D numbers of the u_i, then the R of alpha.
  template <class P>
  __device__ LowRankMixer(const T& team, const SweepMixer& mixer, int64_t D, real eps, const P& p,
                          real*, bool)
      : team(team), mixer(mixer), D(D) {
    const Lengths lengths(eps);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      fill_channels(channels(), u[i], [&](int64_t d) { return lengths.unit * silu(p(i * D + d)); });
      inverse[i] = part_of_dot(u[i], u[i]);
    }
    team.sums(inverse);
#pragma unroll
    for (int i = 0; i < R; ++i) {
      inverse[i] = inverse_length(inverse[i], lengths.eps);
#pragma unroll
      for (int k = 0; k < C; ++k) u[i][k] *= inverse[i];
      inverse[i] *= lengths.unit;
      alpha[i] = sigmoid(p(R * D + i));
    }
  }
  __device__ Channels<T, Constant<C>, int64_t> channels() const { return {team, {}, D}; }
  template <class Sweep, class Visit>
  static __device__ void each_channel(const T& team, const Sweep& in, const Visit& visit) {
    Channels<T, Constant<C>, int64_t>{team, {}, in.D}.each(visit);
  }

  // v <- Q v, and the r dot products that each factor met.
  __device__ void apply(real (&v)[C], real (&met)[R]) const {
    if (!mixer.in_order) {
#pragma unroll
      for (int i = 0; i < R; ++i) met[i] = part_of_dot(u[i], v);
      team.sums(met);
    }
#pragma unroll
    for (int i = 0; i < R; ++i) {
      if (mixer.in_order) met[i] = dot(team, u[i], v);
      add_multiple(v, -mixer.scale * alpha[i] * met[i], u[i]);
    }
  }
  __device__ void apply(real (&v)[C]) const {
    real met[R];
    apply(v, met);
  }
  // v <- Q^T v.
  __device__ void apply_transposed(real (&v)[C]) const {
    if (!mixer.in_order) return apply(v);
#pragma unroll
    for (int i = R - 1; i >= 0; --i)
      add_multiple(v, -mixer.scale * alpha[i] * dot(team, u[i], v), u[i]);
  }

  // y, the solution of the local equation of A, S, gamma, delta (cuda/local_solve.cuh), and Q y.
  using Vectors = LocalVectors<real[R][C], real[R], real[C]>;
  __device__ int32_t solve(const LocalParameters& at, const real (&offset)[C],
                           const real (&gain)[C], const real (&weight)[C], const real (&bias)[C],
                           real (&y)[C], real (&mixed)[C]) const {
    LocalSpace<R, C> space;
    const int32_t count =
        local_solve(team, at, Vectors{u, alpha, offset, gain, weight, bias}, space, y);
#pragma unroll
    for (int k = 0; k < C; ++k) mixed[k] = y[k];
    apply(mixed);
    return count;
  }
  // Returns how many iterations that took, here none.
  __device__ int32_t adjoint(const LocalParameters& at, const real (&offset)[C],
                             const real (&gain)[C], const real (&weight)[C], const real (&bias)[C],
                             const real (&y)[C], const real (&w)[C], real (&v)[C]) const {
    LocalSpace<R, C> space;
    local_adjoint(team, at, Vectors{u, alpha, offset, gain, weight, bias}, space, y, w, v);
    return 0;
  }

  // With dq the cotangent of Q e: give(j, dp_j). e and dq are used up.
  template <class P, class Give>
  __device__ void gradient(real eps, const P& p, real (&e)[C], real (&dq)[C],
                           const Give& give) const {
    real met[R];
    real start[C];
#pragma unroll
    for (int k = 0; k < C; ++k) start[k] = e[k];
    apply(e, met);
#pragma unroll
    for (int i = R - 1; i >= 0; --i) {
      const real factor = mixer.scale * alpha[i], back = dot(team, u[i], dq);
      // e before this factor: undone, or the start that all of them meet.
      if (mixer.in_order) add_multiple(e, factor * met[i], u[i]);
      real du[C];
#pragma unroll
      for (int k = 0; k < C; ++k)
        du[k] = -factor * (met[i] * dq[k] + back * (mixer.in_order ? e[k] : start[k]));
      if (mixer.in_order) add_multiple(dq, -factor * back, u[i]);
      const real along = normal_part(inverse[i], eps, dot(team, u[i], du));
      channels().each([&](int k, int64_t d) {
        give(i * D + d, inverse[i] * (du[k] - along * u[i][k]) * silu_slope(p(i * D + d)));
      });
      if (team.rank == 0) give(R * D + i, -mixer.scale * met[i] * back * alpha[i] * (1 - alpha[i]));
    }
  }
};

inline constexpr int64_t kMostRank = 4, kMostChannels = 1024;

template <class Type>
struct TypeOf {
  using type = Type;
};
// visit(TypeOf<mixer>()) with the smallest that holds these sizes.
template <int R, class Visit>
void with_low_rank(int64_t D, const Visit& visit) {
  if (D <= 128) return visit(TypeOf<LowRankMixer<R, 4, 1>>());
  if (D <= 256)  // more ranks need more registers
    return visit(TypeOf<LowRankMixer<R, R == 1 ? 4 : 2, R == 1 ? 2 : 4>>());
  if (D <= 512) return visit(TypeOf<LowRankMixer<R, 4, 4>>());
  visit(TypeOf<LowRankMixer<R, 8, 4>>());
}
template <class Visit>
void with_kronecker(int64_t m1, int64_t m2, const Visit& visit) {
  const bool fixed = with_constants(m1, m2, [&](auto first, auto second) {
    visit(TypeOf<KroneckerMixer<FixedKroneckerSizes<first(), second()>>>());
  });
  if (fixed) return;
  if (m1 * m2 <= 128) return visit(TypeOf<KroneckerMixer<AnyKroneckerSizes<4, 1>>>());
  visit(TypeOf<KroneckerMixer<AnyKroneckerSizes<8, 4>>>());
}
template <class Visit>
void with_low_rank(int64_t r, int64_t D, const Visit& visit) {
  if (r == 1) return with_low_rank<1>(D, visit);
  if (r == 2) return with_low_rank<2>(D, visit);
  if (r == 3) return with_low_rank<3>(D, visit);
  with_low_rank<4>(D, visit);
}
template <class Visit>
void with_mixer(const SweepMixer& mixer, int64_t D, const Visit& visit) {
  if (mixer.rank == 0) return with_kronecker(mixer.m1, mixer.m2, visit);
  with_low_rank(mixer.rank, D, visit);
}
// Whether a team can hold a token: a Kronecker product's larger factor by one warp too.
inline bool fits_a_team(const SweepMixer& mixer, int64_t D) {
  return D <= kMostChannels && mixer.rank <= kMostRank && (mixer.rank > 0 || mixer.m2 <= kWarp);
}

}  // namespace fprnn::cuda
