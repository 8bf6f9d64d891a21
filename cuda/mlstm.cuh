// What the mLSTM's kernels share (ops/mlstm.md, "On a GPU"): where things are in memory, and what a chunk
// of kSteps steps makes of its gates. A chunk's steps beyond T decay nothing, write nothing and read zeros.
#pragma once

#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/tile_rows.cuh>
#include <fprnn/ops/mlstm.h>

namespace fprnn::cuda::mlstm_chunks {

inline constexpr int kSteps = kMlstmChunk;
inline constexpr int kThreads = 256, kWarps = kThreads / kWarp;
inline constexpr int kHalves = kSteps / kWarp;  // lanes have a step of each
inline constexpr int kTile = 64;                // of the state, a block's rows and columns
static_assert(kSteps == 2 * kWarp && kSteps == 64, "warps' tiles and lanes' steps");

// A call with what kernels leave each other.
struct Work {
  MlstmBackward args;  // steps and checkpoints are there; of forward no gradients
  int64_t chunks;      // of time
  int64_t tiles;       // of the state's rows, and of its columns
  bool quads, pairs;   // whether 16 bytes are read at once, and 8 bytes read and written
  // Of backward.
  real* moved;       // (B, T, H): dh_t . h_t
  real* cotangents;  // (B, H, chunks, d + 1, d): of C and n after each chunk
  real*
      flows;  // (B, H, chunks + 1, tiles^2, kWarps): parts of <Z, C> + zeta . n before each chunk, and
              // after the last
};
static_assert(kMlstmGpuWidth / kTile * (kMlstmGpuWidth / kTile) * kWarps <= kWarp,
              "lanes have one");
FPRNN_HOST_DEVICE inline int parts_of_flow(const Work& work) {
  return static_cast<int>(work.tiles * work.tiles) * kWarps;
}

// How many there are of what, and how it is read; all that kernels read or write in pairs is looked at.
inline Work work_of(const MlstmBackward& args) {
  const int64_t d = args.d;
  const bool quads = quads_aligned(args.q, args.k, args.v, args.c0, args.checkpoints, args.dh);
  const bool pairs =
      quads && quads_aligned(args.h, args.c, args.dq, args.dk, args.dv, args.dc, args.dc0);
  return {.args = args,
          .chunks = ceil_div(args.T, kSteps),
          .tiles = ceil_div(d, kTile),
          .quads = quads && d % Quad::kCount == 0,
          .pairs = pairs && d % 2 == 0,
          .moved = nullptr,
          .cotangents = nullptr,
          .flows = nullptr};
}

// A head of a sequence.
struct Head {
  const Work& work;
  const MlstmBackward& args;
  int64_t unit, b, h;

  __device__ __forceinline__ Head(const Work& work, int64_t unit)
      : work(work), args(work.args), unit(unit), b(unit / args.H), h(unit % args.H) {}

  __device__ __forceinline__ int64_t step(int64_t t) const { return (b * args.T + t) * args.H + h; }
  __device__ __forceinline__ int64_t row(int64_t t) const { return step(t) * args.d; }
  __device__ __forceinline__ int64_t stride() const { return args.H * args.d; }
  __device__ __forceinline__ int64_t vector() const { return unit * args.d; }
  __device__ __forceinline__ int64_t matrix() const { return unit * args.d * args.d; }
  __device__ __forceinline__ int count(int64_t begin) const {
    return static_cast<int>(::min(args.T - begin, int64_t{kSteps}));
  }
  // In arrays of C with n below it, one for each chunk.
  __device__ __forceinline__ int64_t kept(int64_t chunk) const {
    return (unit * work.chunks + chunk) * (args.d + 1) * args.d;
  }
  // C and n before a chunk, or null.
  __device__ __forceinline__ const real* c(int64_t chunk) const {
    if (chunk > 0) return args.checkpoints + kept(chunk);
    return args.c0 == nullptr ? nullptr : args.c0 + matrix();
  }
  __device__ __forceinline__ const real* n(int64_t chunk) const {
    if (chunk > 0) return args.checkpoints + kept(chunk) + args.d * args.d;
    return args.n0 == nullptr ? nullptr : args.n0 + vector();
  }
  __device__ __forceinline__ real first_m() const {
    return args.m0 == nullptr ? kMlstmNothing : args.m0[unit];
  }
  __device__ __forceinline__ real m(int64_t t) const {
    return t < 0 ? first_m() : args.steps[step(t)];
  }
  // n_t . q_t, which forward keeps behind m.
  __device__ __forceinline__ real* reads() const { return args.steps + args.B * args.T * args.H; }
};

// ln sigmoid(x), and its slope.
__device__ __forceinline__ ValueAndSlope log_sigmoid(real x) {
  const ValueAndSlope of = softplus_with_slope(-x);
  return {-of.value, of.slope};
}

// What divides h_t, with what goes back through it.
struct Division {
  real by;   // 1 / (max(|r|, exp(-m)) + eps)
  real dr;   // of r = n . q
  real dm;   // of m, by way of eps
  real row;  // of ln F and ln I, the sum of X's row t
  __device__ __forceinline__ Division(real m, real r, real moved, real eps) {
    const real size = magnitude(r), floor = exp(-m);
    const bool reads = !(size < floor);
    by = 1 / ((reads ? size : floor) + eps);
    dr = !reads ? real(0) : r < 0 ? moved * by : -moved * by;
    row = reads ? eps * by * moved : moved;
    dm = -eps * by * moved;
  }
};

// Numbers of a chunk's steps. The sum of ln F from the chunk's start to t is high + low: differences of two
// sums keep the last bits that large gates would push out of one float.
struct Gates {
  real high[kSteps], low[kSteps];
  real input[kSteps];  // ln I
  real left[kSteps];   // b_t, what is left at t of the state that enters
  real out[kSteps];    // w_s, what is left of k_s v_s^T in the state that leaves, / sqrt(d)
  real by[kSteps];     // 1 / what h_t is divided by
  real read[kSteps];   // forward b_t n . q_t, backward dr_t
  real enter[kSteps];  // backward b_t by_t

  // exp(X_ts), 0 where s is later; masked first.
  __device__ __forceinline__ real between(int t, int s) const {
    return s <= t ? exp((high[t] - high[s]) + ((low[t] - low[s]) + input[s])) : real(0);
  }
};

// By one whole warp. e to less than kLeast is 0 anyway, and the sums stay numbers.
template <bool kBack>
__device__ __forceinline__ void make_gates(const Head& at, int64_t begin, Gates& gates) {
  constexpr real kLeast = kDouble ? -800 : -120;
  const int lane = lane_of();
  double sum[kHalves], end = 0;
  real input[kHalves];
  unrolled<kHalves>([&](int half) {
    const int64_t t = begin + half * kWarp + lane;
    const bool exists = t < at.args.T;
    const int64_t step = exists ? at.step(t) : 0;
    real forget = 0, m = 0;
    input[half] = 0;
    if (exists) {
      m = at.args.steps[step];
      forget = at_least((log_sigmoid(at.args.fgate[step]).value + at.m(t - 1)) - m, kLeast);
      input[half] = at.args.igate[step] - m;
    }
    double x = forget;
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const double before = __shfl_up_sync(kAllLanes, x, distance);
      if (lane >= distance) x += before;
    }
    sum[half] = x += end;
    end = __shfl_sync(kAllLanes, x, kWarp - 1);
    const int i = half * kWarp + lane;
    const real high = static_cast<real>(x), left = exp(high);
    gates.high[i] = high;
    gates.low[i] = static_cast<real>(x - high);
    gates.input[i] = input[half];
    gates.left[i] = left;
    if constexpr (kBack) {
      Division of(m, 0, 0, 0);
      if (exists) of = Division(m, at.reads()[step], at.work.moved[step], at.args.eps);
      gates.by[i] = exists ? of.by : real(0);
      gates.read[i] = exists ? of.dr : real(0);
      gates.enter[i] = exists ? left * of.by : real(0);
    }
  });
  unrolled<kHalves>([&](int half) {
    const int i = half * kWarp + lane;
    const real of = exp(static_cast<real>(end - sum[half]) + input[half]);
    gates.out[i] = begin + i < at.args.T ? of / square_root(static_cast<real>(at.args.d)) : real(0);
  });
}

// Room for a kernel in dynamic shared memory.
template <class Room>
__device__ __forceinline__ Room& shared_room() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return *reinterpret_cast<Room*>(bytes);
}

}  // namespace fprnn::cuda::mlstm_chunks
