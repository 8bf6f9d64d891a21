// One step of one sequence in the sequential solver (ops/fp_mamba_sweep.h) by a team: mixer, b and
// c from the projections, the decay of the state, the local equation, and the outer product that
// the state gains. That is added when the state decays in the next step, so that the state is read
// and written once a step.
#pragma once

#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/sweep_mixer.cuh>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/selective_scan.h>
#include <fprnn/ops/ssd_scan.h>

namespace fprnn::cuda {

// The layers whose steps these are. A channel's states have step sizes and decays of their own, or
// a head has one of each; N is a LayerNorm or RMS.
struct OfFpMamba {
  static constexpr bool kHeads = false, kCentred = true;
  // Step sizes of a token, and which of them a channel has.
  FPRNN_HOST_DEVICE static int64_t sizes(const FpMambaSweep& in) { return in.D; }
  static __device__ __forceinline__ int64_t size_of(const FpMambaSweep&, int64_t d) { return d; }
  // Of the states that are kept of a sequence: their reals, where those before step t begin, and
  // the row of channel d from there on.
  static int64_t kept(const FpMambaSweep& in) {
    return (selective_scan_chunks(in.T) - 1) * selective_scan_channels(in.D) * in.N;
  }
  static constexpr int64_t kChunk = kSelectiveScanChunk;
  static __device__ __forceinline__ int64_t kept_at(const FpMambaSweep& in, int64_t b, int64_t t) {
    const int64_t kept = b * (selective_scan_chunks(in.T) - 1) + t / kChunk - 1;
    return kept * selective_scan_channels(in.D) * in.N;
  }
  static __device__ __forceinline__ int64_t kept_row(const FpMambaSweep&, int64_t d) { return d; }
};
struct OfFpMamba2 {
  static constexpr bool kHeads = true, kCentred = false;
  FPRNN_HOST_DEVICE static int64_t sizes(const FpMambaSweep& in) { return in.D / in.head; }
  static __device__ __forceinline__ int size_of(const FpMambaSweep& in, int64_t d) {
    return static_cast<int>(d) / static_cast<int>(in.head);
  }
  static constexpr int64_t kChunk = kSsdGpuChunk;
  FPRNN_HOST_DEVICE static int64_t chunks(const FpMambaSweep& in) {  // whose states are kept
    return (in.T + kChunk - 1) / kChunk - 1;
  }
  static int64_t kept(const FpMambaSweep& in) { return chunks(in) * in.D * in.N; }
  static __device__ __forceinline__ int64_t kept_at(const FpMambaSweep& in, int64_t b, int64_t t) {
    return (b * sizes(in) * chunks(in) + t / kChunk - 1) * in.head * in.N;
  }
  static __device__ __forceinline__ int64_t kept_row(const FpMambaSweep& in, int64_t d) {
    return d + size_of(in, d) * (chunks(in) - 1) * in.head;
  }
};

// Where in shared memory a step has what x decides of it, each at a multiple of 16 bytes; z may be missing.
struct StepPlaces {
  int64_t x, delta, z, end;
  // sizes: of step sizes.
  FPRNN_HOST_DEVICE StepPlaces(const FpMambaSweep& in, int64_t sizes) {
    const auto after = [](int64_t reals) {
      return (reals + Quad::kCount - 1) / Quad::kCount * Quad::kCount;
    };
    x = after(in.P);
    delta = x + after(in.D);
    z = delta + after(sizes);
    end = z + (in.z == nullptr ? 0 : after(in.D));
  }
};

// The step's token: its numbers in the sweep's arrays, of which some may have been brought nearer, and what it
// has from y_{t-1}, P numbers or null.
template <class Of>
struct StepToken {
  const FpMambaSweep& in;
  int64_t b, t, row;                      // row: of all tokens
  const real *projected, *x, *delta, *z;  // (P), (D), (D) or (H), (D) or null
  const real* projected_y;

  __device__ __forceinline__ StepToken(const FpMambaSweep& in, int64_t b, int64_t t,
                                       const real* projected_y)
      : in(in),
        b(b),
        t(t),
        row(b * in.T + t),
        projected(in.projected + row * in.P),
        x(in.x + row * in.D),
        delta(in.delta + row * Of::sizes(in)),
        z(in.z == nullptr ? nullptr : in.z + row * in.D),
        projected_y(projected_y) {}
  // The same with what has been brought to `near`.
  __device__ __forceinline__ StepToken brought(const StepPlaces& places, const real* near) const {
    StepToken token = *this;
    token.projected = near;
    token.x = near + places.x;
    token.delta = near + places.delta;
    if (z != nullptr) token.z = near + places.z;
    return token;
  }
  __device__ __forceinline__ real p(int64_t j) const {
    return projected_y == nullptr ? projected[j] : projected[j] + projected_y[j];
  }
  // Where the state before the step is kept, or null.
  __device__ __forceinline__ real* checkpoint() const {
    if (in.trace.checkpoints == nullptr || t == 0 || t % Of::kChunk != 0) return nullptr;
    return in.trace.checkpoints + Of::kept_at(in, b, t);
  }
};

// What is contiguous, to shared memory while the team goes on.
template <class T>
__device__ __forceinline__ void bring(const T& team, int64_t reals, const real* from, real* to) {
  const bool in_quads = reals % Quad::kCount == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
  if (in_quads)
    team.each(reals / Quad::kCount, [&](auto i) {
      copy_async<16>(to + i * Quad::kCount, from + i * Quad::kCount, true);
    });
  else
    team.each(reals, [&](auto i) { copy_async<sizeof(real)>(to + i, from + i, true); });
}
// What x decides of a step, to where StepPlaces says.
template <class T, class Of>
__device__ __forceinline__ void bring_step(const T& team, const StepToken<Of>& at,
                                           const StepPlaces& places, real* to) {
  bring(team, at.in.P, at.projected, to);
  bring(team, at.in.D, at.x, to + places.x);
  bring(team, Of::sizes(at.in), at.delta, to + places.delta);
  if (at.z != nullptr) bring(team, at.in.D, at.z, to + places.z);
}

// What happens to four of a channel's states in a step: h <- h + gained before^T, which is the state before the
// step and goes to `checkpoint` unless that is null, then h <- factor(j) h. Returns h . c.
template <class Factor>
__device__ __forceinline__ real decay_quad(Quad& h, const Factor& factor, real gained,
                                           const Quad& before, const Quad& c, real* checkpoint) {
#pragma unroll
  for (int j = 0; j < Quad::kCount; ++j) h.v[j] += gained * before.v[j];
  if (checkpoint != nullptr) store_states(checkpoint, h);
  real total = 0;
#pragma unroll
  for (int j = 0; j < Quad::kCount; ++j) {
    h.v[j] *= factor(j);
    total += h.v[j] * c.v[j];
  }
  return total;
}

// SiLU(z), but never 0, so that it can be divided by: what is so small lets nothing through.
__device__ __forceinline__ real open_gate(real z) {
  constexpr real kSmallest = static_cast<real>(1e-30);
  const real gate = silu(z);
  return magnitude(gate) < kSmallest ? kSmallest : gate;
}

struct StepSolved {
  int32_t iterations;
  real bound;  // of |y|, hardly above it where the equation is solved
};

// gained: what the step before has added to each channel, times its b (`before`, N in shared
// memory, 0 where there was no step); becomes this step's. b and c (N each) and space are shared
// memory, at multiples of 16 bytes. State has decay(team, channels, gained, before, c, dt, log2(k),
// checkpoint, carried), which decays the state of all channels by k exp(dt A), where k is 1 or 0;
// carried is h . c. residual becomes this step's if it is larger.
template <class Mixer, class Of, class State>
__device__ __forceinline__ StepSolved solve_step(const typename Mixer::T& team,
                                                 const StepToken<Of>& at, const State& state,
                                                 const real* before, real* b, real* c, real* space,
                                                 real (&gained)[Mixer::C], real (&y)[Mixer::C],
                                                 real& residual) {
  constexpr int C = Mixer::C;
  const FpMambaSweep& in = at.in;
  const auto p = [&](int64_t j) { return at.p(j); };
  const Mixer mixer(team, in.mixer, in.D, in.eps, p, space, false);
  const int64_t M = in.P - 2 * in.N;
  const Directions<typename Mixer::T> s(
      team, in.N, in.bc_norm, in.eps, [&](int64_t j) { return at.p(M + j); }, b, c);
  const auto channels = mixer.channels();
  const FpMambaSweepTrace& record = in.trace;
  if (record.b != nullptr) {
    team.copy(in.N, s.b, record.b + at.row * in.N);
    team.copy(in.N, s.c, record.c + at.row * in.N);
  }

  // A and S of the local equation.
  const real keep = in.keep == nullptr ? real(0) : ::log2(in.keep[at.row]);
  real unmixed[C], dt[C], carried[C]{}, offset[C]{}, gain[C]{};
  fill_channels(channels, unmixed, [&](int64_t d) { return at.x[d]; });
  mixer.apply(unmixed);
  fill_channels(channels, dt, [&](int64_t d) {
    const auto i = Of::size_of(in, d);
    return softplus(at.delta[i] + in.delta_bias[i]);
  });
  state.decay(team, channels, gained, before, s.c, dt, keep, at.checkpoint(), carried);
  const auto gate_of = [&](int64_t d) { return at.z == nullptr ? real(1) : open_gate(at.z[d]); };
  channels.each([&](int k, int64_t d) {
    const real gate = gate_of(d);
    gain[k] = dt[k] * s.product + in.skip[d];
    offset[k] = gate * (carried[k] + gain[k] * unmixed[k]);
    gain[k] *= gate;
  });

  real weight[C], bias[C], mixed[C];
  fill_channels(channels, weight, [&](int64_t d) { return in.norm_weight[d]; });
  fill_channels(channels, bias,
                [&](int64_t d) { return Of::kCentred ? in.norm_bias[d] : real(0); });
  const int32_t count =
      mixer.solve(local_parameters(in, true, Of::kCentred), offset, gain, weight, bias, y, mixed);

  // f at y: N(A + S . ((I - Q) y)) is all that it makes of y once A and S are there. Without N and
  // gate that is what the scan gives. Two teams may have the same sequence and write the same.
  real f[C]{};
  channels.each([&](int k, int64_t d) {
    f[k] = offset[k] + gain[k] * (y[k] - mixed[k]);
    if (record.scanned != nullptr) record.scanned[at.row * in.D + d] = f[k] / gate_of(d);
  });
  real mean = 0;
  if constexpr (Of::kCentred)
    mean = sum_over(channels, [&](int k) { return f[k]; }) / static_cast<real>(in.D);
  const real inverse =
      Of::kCentred ? center(channels, in.eps, mean, f) : inverse_size(channels, in.eps, f);
  if (record.statistics != nullptr && team.rank == 0) {
    record.statistics[2 * at.row] = mean;
    record.statistics[2 * at.row + 1] = inverse;
  }
  const Distance distance = distance_of(
      channels, [&](int k) { return weight[k] * (inverse * f[k]) + bias[k]; }, y);
  residual = LargerSize()(residual, distance.relative());

  // What the state gains: dt (Q x + (I - Q) y) b^T.
#pragma unroll
  for (int k = 0; k < C; ++k) mixed[k] = unmixed[k] + y[k] - mixed[k];
#pragma unroll
  for (int k = 0; k < C; ++k) gained[k] = dt[k] * mixed[k];
  channels.each([&](int k, int64_t d) {
    in.y[at.row * in.D + d] = y[k];
    if (record.mixed != nullptr) record.mixed[at.row * in.D + d] = mixed[k];
  });
  return {count, distance.size + distance.difference};
}

}  // namespace fprnn::cuda
