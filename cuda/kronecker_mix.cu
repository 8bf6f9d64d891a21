// The token's factors are made of p, used and, backward, made again in shared memory: what a team reads are p, x, y
// and the cotangents, what it writes the mixed channels or the gradients. p, b and c are read many
// times, so they come to shared memory first, and memory is waited for once. Bound by the chain of
// small products that make a factor (cuda/kronecker_factor.cuh) and of those that its gradient
// takes.
#include <fprnn/cuda/kronecker_mix.cuh>
#include <fprnn/cuda/mix_token.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>

namespace fprnn::cuda {

namespace {

template <class Mixer>
constexpr int kTeams = Mixer::T::kWarps < 4 ? 4 / Mixer::T::kWarps : 1;  // of a block
template <class Mixer>
constexpr int kThreads = kTeams<Mixer>* Mixer::T::kSize;
// Blocks that shared memory has room for with a large token each, if rows are all that is normalised (three
// otherwise): registers must not allow fewer.
template <class Mixer>
constexpr int kBlocks = Mixer::T::kWarps == 4 ? 4 : 1;

// Reals of p and of b and c or their cotangents, a multiple of 16 bytes.
FPRNN_HOST_DEVICE inline int64_t near_space(const FpMambaMixForward& in) {
  return (in.P + 2 * in.N + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
}

// p to shared memory; the team has to meet before others read it.
template <class T>
__device__ __forceinline__ void bring_p(const T& team, const MixToken& token, int64_t P,
                                        real* near) {
  if (token.projected_y == nullptr) return team.copy(P, token.projected, near);
#pragma unroll 8
  for (int j = team.rank; j < P; j += T::kSize) near[j] = token.projected[j] + token.projected_y[j];
}

template <class Mixer>
__global__ void __launch_bounds__(kThreads<Mixer>)
    kronecker_mix_forward_kernel(const FpMambaMixForward in, const SharedSpace workspace) {
  constexpr int C = Mixer::C;
  for_tokens<Mixer::T::kWarps>(
      in.B * in.T, workspace, [&](const auto& team, int64_t row, real* space) {
        const MixToken token(in, row);
        const int64_t first = row * in.D;
        const auto each_channel = [&](const auto& visit) { Mixer::each_channel(team, in, visit); };
        real y[C]{}, e[C]{};
        each_channel([&](int k, int64_t d) {
          y[k] = in.y[first + d];
          e[k] = in.x[first + d] - y[k];
        });
        bring_p(team, token, in.P, space);
        team.sync();
        const auto p = [=](int64_t j) { return space[j]; };
        real* const of_b = space + in.P;
        const Mixer mixer(team, in.mixer, in.D, in.eps, p, space + near_space(in), false);
        const Directions<typename Mixer::T> s(
            team, in.N, in.bc_norm, in.eps, [&](int64_t j) { return p(in.bc_offset + j); }, of_b,
            of_b + in.N);
        team.each(in.N, [&](int64_t n) {
          in.b[row * in.N + n] = s.b[n];
          in.c[row * in.N + n] = s.c[n];
        });
        mixer.apply(e);
        each_channel([&](int k, int64_t d) { in.mixed[first + d] = e[k] + y[k]; });
      });
}

// mixed = Q (x - y) + y: dx = Q^T dmixed, dy what is left of it, and p's gradient through Q.
template <class Mixer>
__global__ void __launch_bounds__(kThreads<Mixer>, kBlocks<Mixer>)
    kronecker_mix_backward_kernel(const FpMambaMixBackward args, const SharedSpace workspace) {
  constexpr int C = Mixer::C;
  const FpMambaMixForward& in = args.forward;
  for_tokens<Mixer::T::kWarps>(
      in.B * in.T, workspace, [&](const auto& team, int64_t row, real* space) {
        const MixToken token(in, row);
        const MixGradient to(args, token);
        const int64_t first = row * in.D;
        const auto each_channel = [&](const auto& visit) { Mixer::each_channel(team, in, visit); };
        const auto p = [=](int64_t j) { return space[j]; };
        const auto give = [&](int64_t j, real dp) { to.give(j, dp); };
        real *const db = space + in.P, *const dc = db + in.N;
        bring_p(team, token, in.P, space);
        team.copy(in.N, args.db + row * in.N, db);
        team.copy(in.N, args.dc + row * in.N, dc);
        real e[C]{}, g[C]{}, dx[C]{};
        each_channel([&](int k, int64_t d) {
          e[k] = in.x[first + d] - in.y[first + d];
          g[k] = dx[k] = args.dmixed[first + d];
        });
        team.sync();
        const Mixer mixer(team, in.mixer, in.D, in.eps, p, space + near_space(in), true);
        mixer.apply_transposed(dx);
        each_channel([&](int k, int64_t d) {
          if (args.dx != nullptr) args.dx[first + d] = dx[k];
          if (args.dy != nullptr) args.dy[first + d] = g[k] - dx[k];
        });
        mixer.gradient(in.eps, p, e, g, give);

        const Lengths lengths(in.eps);
        real sums[4]{};
        team.each(in.N, [&](int64_t n) {
          const real b = lengths.unit * p(in.bc_offset + n),
                     c = lengths.unit * p(in.bc_offset + in.N + n);
          sums[0] += b * b;
          sums[1] += c * c;
          sums[2] += b * db[n];
          sums[3] += c * dc[n];
        });
        team.sums(sums);
        direction_gradient(in, lengths, p, in.bc_offset, db, sums[0], sums[2], to, team.rank,
                           Mixer::T::kSize);
        direction_gradient(in, lengths, p, in.bc_offset + in.N, dc, sums[1], sums[3], to, team.rank,
                           Mixer::T::kSize);
        clear_rest(in, Mixer::numbers(in.mixer), to, team.rank, Mixer::T::kSize);
      });
}

template <class Mixer>
int64_t space_of(const FpMambaMixForward& in, bool with_gradient) {
  return Mixer::space(in.mixer, with_gradient) + near_space(in);
}

}  // namespace

bool mixes_in_teams(Cuda cuda, const FpMambaMixForward& args) {
  bool fits = fits_a_team(args.mixer, args.D);
  if (!fits) return false;
  with_kronecker(args.mixer.m1, args.mixer.m2, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    const int64_t most = std::max(space_of<Mixer>(args, true), space_of<Mixer>(args, false));
    const int64_t bytes = (most + Quad::kCount) * kTeams<Mixer> * int64_t{sizeof(real)};
    const int64_t exchange = Mixer::T::kSpace * kTeams<Mixer> * int64_t{sizeof(real)};
    fits = bytes <= kMostShared && gpu(cuda).forms.fit(exchange + bytes);
  });
  return fits;
}

void mix_in_teams(Cuda cuda, const FpMambaMixForward& args) {
  with_kronecker(args.mixer.m1, args.mixer.m2, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start_teams<Mixer::T::kWarps, SharedSpace>(cuda, "kronecker_mix_forward",
                                               kronecker_mix_forward_kernel<Mixer>, args.B * args.T,
                                               space_of<Mixer>(args, false), kTeams<Mixer>, args);
  });
}

void mix_in_teams(Cuda cuda, const FpMambaMixBackward& args) {
  const FpMambaMixForward& in = args.forward;
  with_kronecker(in.mixer.m1, in.mixer.m2, [&](auto type) {
    using Mixer = typename decltype(type)::type;
    start_teams<Mixer::T::kWarps, SharedSpace>(cuda, "kronecker_mix_backward",
                                               kronecker_mix_backward_kernel<Mixer>, in.B * in.T,
                                               space_of<Mixer>(in, true), kTeams<Mixer>, args);
  });
}

}  // namespace fprnn::cuda
