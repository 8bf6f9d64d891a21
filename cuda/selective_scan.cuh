// What forward and backward of the selective scan (selective_scan.cu) share: a lane's place in the
// problem, and the loading of rows into shared memory and their conversion to step sizes.
#pragma once

#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/selective_scan.h>

#include <type_traits>

namespace fprnn::cuda {

constexpr int kChunk = kSelectiveScanChunk;
constexpr int kGroup = 16;  // states that a warp has at once
constexpr int kWarps = 4;   // of a block, at most
constexpr real kLn2 = static_cast<real>(0.6931471805599453);

// Neighbours in memory, read and written at once.
struct alignas(16) Four {
  real v[4];
};
__device__ __forceinline__ const Four& four(const real* x) {
  return *reinterpret_cast<const Four*>(x);
}
// Of a lane: (channel, state).
struct StateTile {
  real v[4][4];
};

struct SelectivePlan {
  int64_t blocks, groups, chunks;  // of channels, of states, of time
  int64_t channels;                // of a checkpoint
  int warps;
  bool column_quads, state_quads;  // those are aligned in all arrays that are read or written so
};

// Rows (step, channel) and (step, state) in shared memory.
using Rows = real[kChunk][kWarp];
struct StepDirections {
  real b[kChunk][kGroup], c[kChunk][kGroup];
};
struct ForwardRows {
  Rows u[2], delta[2];  // delta becomes the step size
  Rows input;           // dt . u
};
struct BackwardRows {
  Rows u, delta, dy, input;
  Rows slope;  // of softplus
  // Each a lane's own: the state before a pair of steps, (channel); then db and dc of either step.
  Four pairs[kChunk / 2][4][kWarp];
};
template <class Warp>
struct alignas(16) Room {
  StepDirections directions[2];
  Warp warps[kWarps];  // as many as the block has

  static size_t bytes(int warps) { return sizeof(StepDirections) * 2 + sizeof(Warp) * warps; }
};

// Steps and states that are worked on together.
struct Chunk {
  int64_t number, group;
  int64_t begin;
  int count;  // of steps that exist

  __device__ Chunk(const SelectiveScanForward& args, int64_t number, int64_t group)
      : number(number), group(group), begin(number * kChunk) {
    const int64_t left = args.T - begin;
    count = left < kChunk ? static_cast<int>(left) : kChunk;
  }
};

// A lane's place in the problem.
struct Lane {
  const SelectiveScanForward& args;
  const SelectivePlan& plan;
  int lane, state, channel;  // the first of its tile, in the group and in the warp
  int64_t b, block, first;   // sequence, block of the sequence, the warp's first channel

  __device__ Lane(const SelectiveScanForward& args, const SelectivePlan& plan)
      : args(args),
        plan(plan),
        lane(threadIdx.x % kWarp),
        state(lane % 4 * 4),
        channel(lane / 4 * 4),
        b(blockIdx.x / plan.blocks),
        block(blockIdx.x % plan.blocks),
        first((block * plan.warps + threadIdx.x / kWarp) * kWarp) {}

  __device__ bool inside() const { return first + lane < args.D; }
  __device__ int64_t own(int64_t t) const { return (b * args.T + t) * args.D + first + lane; }
  __device__ real per_channel(const real* from) const {
    return inside() && from != nullptr ? from[first + lane] : real(0);
  }
  __device__ real keep(int64_t t) const {
    return args.keep != nullptr && t < args.T ? args.keep[b * args.T + t] : real(1);
  }

  // visit(i, j, whole, index) for what exists of the tile, in a matrix (D, N): all four states of
  // channel i at once, or state j.
  template <class Visit>
  __device__ __forceinline__ void visit_tile(int64_t group, const Visit& visit) const {
    const int64_t d = first + channel, n = group * kGroup + state;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (d + i >= args.D) continue;
      const int64_t index = (d + i) * args.N + n;
      if (plan.state_quads) {
        if (n < args.N) visit(i, 0, std::true_type(), index);
      } else {
        unrolled<4>([&](int j) {
          if (n + j < args.N) visit(i, j, std::false_type(), index + j);
        });
      }
    }
  }
  // From a matrix, or zero if that is null; zero where nothing exists.
  __device__ __forceinline__ StateTile load(const real* from, int64_t group) const {
    StateTile x{};
    if (from == nullptr) return x;
    visit_tile(group, [&](int i, int j, auto whole, int64_t index) {
      if constexpr (whole()) {
        const Four states = four(from + index);
        unrolled<4>([&](int k) { x.v[i][k] = states.v[k]; });
      } else {
        x.v[i][j] = from[index];
      }
    });
    return x;
  }
  __device__ __forceinline__ void store(real* to, int64_t group, const StateTile& x) const {
    visit_tile(group, [&](int i, int j, auto whole, int64_t index) {
      if constexpr (whole())
        *reinterpret_cast<Four*>(to + index) = {x.v[i][0], x.v[i][1], x.v[i][2], x.v[i][3]};
      else
        to[index] = x.v[i][j];
    });
  }
  __device__ __forceinline__ StateTile load_rate(int64_t group) const {
    StateTile rate = load(args.a, group);
    unrolled<16>([&](int i) { rate.v[i / 4][i % 4] *= kLog2e; });
    return rate;
  }
  // This sequence's matrix of (B, D, N), and a chunk's checkpoint but the first one's.
  template <class Real>
  __device__ Real* matrix(Real* x) const {
    return x == nullptr ? x : x + b * args.D * args.N;
  }
  __device__ real* checkpoint(int64_t chunk) const {
    return args.checkpoints + (b * (plan.chunks - 1) + chunk - 1) * plan.channels * args.N;
  }
  // The state before a chunk, null where it is zero.
  __device__ const real* before(int64_t chunk) const {
    return chunk == 0 ? matrix(args.h0) : checkpoint(chunk);
  }
};

// Asks for 4 rows of each array; `row` is a multiple of 4 and t its step.
struct Stream {
  const real* from;  // (B, T, D)
  real (*to)[kWarp];
};
template <int Count>
__device__ __forceinline__ void fetch_rows(const Lane& at, const Stream (&streams)[Count], int row,
                                           int64_t t) {
  with_quads(at.plan.column_quads, [&](auto width) {
    constexpr int kAcross = kWarp / width();
    const int down = at.lane / kAcross, across = at.lane % kAcross * width();
    const int64_t column = at.first + across;
#pragma unroll
    for (int k = 0; k < 4; k += width()) {
      const int64_t step = t + k + down;
      const bool present = step < at.args.T && column < at.args.D;
      const int64_t index = (at.b * at.args.T + step) * at.args.D + column;
      unrolled<Count>([&](int i) {
        copy_async<width() * sizeof(real)>(&streams[i].to[row + k + down][across],
                                           streams[i].from + index, present);
      });
    }
  });
}

// Asks for b and c of a chunk, all threads of the block together.
__device__ __forceinline__ void fetch_directions(const Lane& at, const Chunk& chunk,
                                                 StepDirections& to) {
  with_quads(at.plan.state_quads, [&](auto width) {
    constexpr int kAcross = kGroup / width();
    for (int i = threadIdx.x; i < kChunk * kAcross; i += blockDim.x) {
      const int row = i / kAcross, across = i % kAcross * width();
      const int64_t t = chunk.begin + row, n = chunk.group * kGroup + across;
      const bool present = row < chunk.count && n < at.args.N;
      const int64_t index = (at.b * at.args.T + t) * at.args.N + n;
      copy_async<width() * sizeof(real)>(&to.b[row][across], at.args.b + index, present);
      copy_async<width() * sizeof(real)>(&to.c[row][across], at.args.c + index, present);
    }
  });
}

// Step sizes in the place of delta, dt . u, and the slope if asked. A lane does its own channel.
template <bool WithSlope>
__device__ __forceinline__ void make_steps(const Lane& at, real bias, int count, Rows& delta,
                                           const Rows& u, Rows& input, Rows* slope) {
  for (int t = 0; t < count; t += 4) {
    unrolled<4>([&](int k) {
      const real raw = delta[t + k][at.lane] + bias;
      ValueAndSlope dt = at.args.softplus ? softplus_with_slope(raw) : ValueAndSlope{raw, 1};
      if (t + k >= count) dt = {0, 0};
      delta[t + k][at.lane] = dt.value;
      input[t + k][at.lane] = dt.value * u[t + k][at.lane];
      if constexpr (WithSlope) (*slope)[t + k][at.lane] = dt.slope;
    });
  }
  __syncwarp();
}

// Each summed over the tiles of 4 lanes with the same channels: a lane gets its own channel's.
__device__ __forceinline__ real sum_states(const Lane& at, const real (&x)[4]) {
  const bool high = at.lane & 2, odd = at.lane & 1;
  real even_sum = high ? x[2] : x[0], odd_sum = high ? x[3] : x[1];
  even_sum += __shfl_xor_sync(kAllLanes, high ? x[0] : x[2], 2);
  odd_sum += __shfl_xor_sync(kAllLanes, high ? x[1] : x[3], 2);
  return (odd ? odd_sum : even_sum) + __shfl_xor_sync(kAllLanes, odd ? even_sum : odd_sum, 1);
}

// The factor of a state, and its slope in dt A. Plain: no keep, no negative eigenvalues, and one group of states.
template <bool Plain>
__device__ __forceinline__ ValueAndSlope decay_factor(real dt, real rate, real keep,
                                                      bool negative) {
  const real a = exp2_decay(dt * rate);
  if (Plain) return {a, a};
  const real slope = (negative ? 2 * keep : keep) * a;
  return {negative ? slope - keep : slope, slope};
}

// Blocks for the channels of a sequence: as few as their shared memory allows.
template <class Rows>
int64_t selective_blocks(Cuda cuda, int64_t D) {
  int warps = kWarps;
  while (warps > 1 && !gpu(cuda).forms.fit(Room<Rows>::bytes(warps))) --warps;
  return ceil_div(D, warps * kWarp);
}
inline SelectivePlan plan_selective(const SelectiveScanForward& args, int64_t blocks, bool columns,
                                    bool states) {
  return {
      .blocks = blocks,
      .groups = ceil_div(args.N, kGroup),
      .chunks = std::max<int64_t>(selective_scan_chunks(args.T), 1),
      .channels = selective_scan_channels(args.D),
      .warps = static_cast<int>(ceil_div(ceil_div(args.D, kWarp), blocks)),
      .column_quads = columns && args.D % Quad::kCount == 0 && quads_aligned(args.u, args.delta),
      .state_quads = states && args.N % 4 == 0 &&
                     quads_aligned(args.a, args.b, args.c, args.h0, args.checkpoints)};
}
inline bool is_plain(const SelectiveScanForward& args) {
  return args.keep == nullptr && !args.negative && args.N <= kGroup;
}
template <class Rows>
Grid selective_grid(const SelectiveScanForward& args, const SelectivePlan& plan) {
  return {.blocks = args.B * plan.blocks,
          .threads = plan.warps * kWarp,
          .shared_bytes = Room<Rows>::bytes(plan.warps)};
}

}  // namespace fprnn::cuda
