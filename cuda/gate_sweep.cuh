// Gated recurrences through time, all steps in one kernel (ops/recurrent.md, "On a GPU"). Heads of d
// channels, up to kMostOfHead, with G gates and W (G d, d) each:
//   forward   s_t = W h_{t-1},  the cell gives h_t       backward  the cell gives ds_t,  dh_{t-1} += W^T ds_t
// A block takes R sequences of a head. Four neighbouring lanes share a channel: each multiplies a quarter
// of the depth, in quads that lie four apart, for all gates and R sequences, and with the sums each has its
// own sequence's channel (with one sequence all four have it and do the same; the first writes). So the
// cell's state stays in registers, and what a step tells the block, h or ds, goes through two places in
// shared memory by turns: whoever writes to one again has passed the barrier after which all had read it.
//
// A lane's weights do not change: the first Held quads are in registers, others in shared memory as far as
// it goes, the rest is read each time. What a step reads from memory is asked for a step ahead, out of the
// second-level cache, where it is brought kGateAhead steps ahead.
//
// A cell names its op's contract, `args`, and
//   kGates, State: what it keeps from step to step; Carry: what goes back, with dh the cotangent of h
//   sizes(); first(at), step(at, t, x, s, state, writes) -> h; finish(at, state)
//   last(at), load(at, t), step(at, t, loaded, carry, ds, writes); finish(at, carry)
//   each_read(at, t, visit): where load will read
// where `at` is one channel of one sequence. What does not exist has zeros and is not written.
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/unroll.cuh>
#include <fprnn/ops/matmul.h>

namespace fprnn::cuda {

struct GateSizes {
  int64_t B, T, heads, d;
  FPRNN_HOST_DEVICE int64_t width() const { return heads * d; }
};

// One channel of one sequence; D is all channels of all heads.
struct GateChannel {
  int64_t sequence, channel, T, D;
  __device__ __forceinline__ int64_t state() const { return sequence * D + channel; }  // (B, D)
  // Part k of (B, T, parts, D).
  __device__ __forceinline__ int64_t at(int64_t t, int parts = 1, int k = 0) const {
    return ((sequence * T + t) * parts + k) * D + channel;
  }
};
__device__ __forceinline__ real given(const real* from, int64_t at) {
  return from != nullptr ? from[at] : real(0);
}
__device__ __forceinline__ void give(real* to, int64_t at, real x) {
  if (to != nullptr) to[at] = x;
}
__device__ __forceinline__ void bring_near(const real* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(at)));
}

inline constexpr int kGateLanes = 4;                       // of a channel
inline constexpr int kGateQuad = 4;                        // reals of a quad
inline constexpr int kGateDepth = kGateLanes * kGateQuad;  // of a quad in all four lanes
inline constexpr int kGateAhead = 4;
inline constexpr int64_t kMostOfHead = 128;

struct alignas(16) GateQuad {
  real v[kGateQuad];
};
struct GatePlan {
  int quads;     // of a lane's depth
  int resident;  // of those, in shared memory
  int stride;    // of vectors in shared memory: the depth and 8, so that rows lie in other banks
  bool aligned;  // weights may be read as quads
};

// The lane's place.
template <int R>
struct GateLane {
  static_assert(R == 1 || R == kGateLanes);
  int part, channel, row;
  int64_t head;
  bool of_head, inside, writes;
  GateChannel at;

  __device__ __forceinline__ explicit GateLane(const GateSizes& sizes)
      : part(static_cast<int>(threadIdx.x) % kGateLanes),
        channel(static_cast<int>(threadIdx.x) / kGateLanes),
        row(R == 1 ? 0 : part) {
    const int64_t blocks = (sizes.B + R - 1) / R;
    head = blockIdx.x / blocks;
    at = {blockIdx.x % blocks * R + row, head * sizes.d + channel, sizes.T, sizes.width()};
    of_head = channel < sizes.d;
    inside = of_head && at.sequence < sizes.B;
    writes = inside && (R > 1 || part == 0);
  }
  // Whether the lane tells the block its channel.
  __device__ __forceinline__ bool tells() const { return of_head && (R > 1 || part == 0); }
};

// Of R rows' values, sums over the four lanes of a channel: each has those of its row.
template <int R, int N>
__device__ __forceinline__ void sums_of_lanes(real (&x)[R][N], int part, real (&own)[N]) {
  const auto halve = [&](real& low, real& high, int distance) {
    const bool upper = (part & distance) != 0;
    const real mine = upper ? high : low, other = upper ? low : high;
    low = mine + __shfl_xor_sync(kAllLanes, other, distance);
  };
  unrolled<N>([&](int i) {
    if constexpr (R == 1) {
      own[i] = warp_sum<kGateLanes>(x[0][i]);
    } else {
      halve(x[0][i], x[2][i], 2);
      halve(x[1][i], x[3][i], 2);
      halve(x[0][i], x[1][i], 1);
      own[i] = x[0][i];
    }
  });
}

// A lane's weights: rows of a head's W forward, columns backward.
template <int R, int G, int Held, bool kBack>
class GateWeights {
 public:
  __device__ __forceinline__ GateWeights(const GateLane<R>& lane, const GateSizes& sizes,
                                         const GatePlan& plan, const real* weight, GateQuad* shared)
      : plan_(plan),
        part_(lane.part),
        d_(lane.of_head ? static_cast<int>(sizes.d) : 0),
        size_(static_cast<int>(sizes.d)),
        shared_(shared + threadIdx.x),
        from_(weight + lane.head * G * sizes.d * sizes.d +
              lane.channel * (kBack ? int64_t{1} : sizes.d)) {
    unrolled<Held>([&](int j) { unrolled<G>([&](int g) { held_[j][g] = read(j, g); }); });
    for (int j = 0; j < plan_.resident; ++j)
      unrolled<G>([&](int g) { resident(j, g) = read(Held + j, g); });
  }

  // sums[r][g]: the lane's part of W's rows for gate g times vector r, or of W's columns there times the
  // part of vector r that belongs to gate g; the gates may share one sum. vectors: (R), or (G, R) backward.
  template <int N>
  __device__ __forceinline__ void multiply(const real* vectors, real (&sums)[R][N]) const {
    unrolled<Held>([&](int j) {
      if (j < plan_.quads) add(vectors, j, held_[j], sums);
    });
    GateQuad w[G];
#pragma unroll 1
    for (int j = 0; j < plan_.resident; ++j) {
      unrolled<G>([&](int g) { w[g] = resident(j, g); });
      add(vectors, Held + j, w, sums);
    }
#pragma unroll 1
    for (int j = Held + plan_.resident; j < plan_.quads; ++j) {
      unrolled<G>([&](int g) { w[g] = read(j, g); });
      add(vectors, j, w, sums);
    }
  }

 private:
  // Only the lane itself reads what it has written there.
  __device__ __forceinline__ GateQuad& resident(int j, int g) const {
    return shared_[(j * G + g) * static_cast<int>(blockDim.x)];
  }
  // Zeros beyond the head.
  __device__ __forceinline__ GateQuad read(int j, int g) const {
    const int k = j * kGateDepth + part_ * kGateQuad;
    const real* const from = from_ + (g * size_ * size_ + k * (kBack ? size_ : 1));
    if (!kBack && plan_.aligned && k < d_) return *reinterpret_cast<const GateQuad*>(from);
    GateQuad w;
    unrolled<kGateQuad>(
        [&](int i) { w.v[i] = k + i < d_ ? from[i * (kBack ? size_ : 1)] : real(0); });
    return w;
  }
  template <int N>
  __device__ __forceinline__ void add(const real* vectors, int j, const GateQuad (&w)[G],
                                      real (&sums)[R][N]) const {
    const real* const first = vectors + j * kGateDepth + part_ * kGateQuad;
    const auto row = [&](int i) {
      return *reinterpret_cast<const GateQuad*>(first + i * plan_.stride);
    };
    unrolled<R>([&](int r) {
      GateQuad x = row(r);
      unrolled<G>([&](int g) {
        if (kBack && g > 0) x = row(g * R + r);
        unrolled<kGateQuad>([&](int i) { sums[r][g % N] += w[g].v[i] * x.v[i]; });
      });
    });
  }

  GatePlan plan_;
  int part_, d_, size_;
  GateQuad* shared_;
  const real* from_;
  GateQuad held_[Held][G];
};

// The two places for vectors of a block, behind the weights: zeros at first.
struct GateVectors {
  real* first;
  int size;
  __device__ __forceinline__ GateVectors(GateQuad* shared, const GatePlan& plan, int gates,
                                         int rows)
      : first(
            reinterpret_cast<real*>(shared + plan.resident * gates * static_cast<int>(blockDim.x))),
        size(rows * plan.stride) {
    for (int i = static_cast<int>(threadIdx.x); i < 2 * size; i += static_cast<int>(blockDim.x))
      first[i] = 0;
    __syncthreads();
  }
  __device__ __forceinline__ real* operator[](int64_t t) const { return first + t % 2 * size; }
};

// At most, where so many quads are in registers.
constexpr int gate_threads(int held) { return 2 * held * kGateDepth >= kMostOfHead ? 256 : 512; }

template <class Cell, int R, int Held>
__global__ void __launch_bounds__(gate_threads(Held))
    gate_forward_kernel(const Cell cell, const GatePlan plan) {
  extern __shared__ GateQuad gate_room[];
  constexpr int G = Cell::kGates;
  const GateSizes sizes = cell.sizes();
  const GateLane<R> lane(sizes);
  const GateVectors h(gate_room, plan, G, R);
  const GateWeights<R, G, Held, false> weights(lane, sizes, plan, cell.args.weight, gate_room);
  const GateChannel& at = lane.at;
  const int own = lane.row * plan.stride + lane.channel;
  const bool begun = cell.args.h0 != nullptr;
  if (begun && lane.writes) h[0][own] = cell.args.h0[at.state()];
  typename Cell::State state{};
  if (lane.inside) state = cell.first(at);
  real bias[G]{}, next[G]{};
  if (lane.inside)
    unrolled<G>([&](int g) { bias[g] = given(cell.args.bias, g * at.D + at.channel); });
  if (lane.inside && sizes.T > 0)
    unrolled<G>([&](int g) { next[g] = cell.args.x[at.at(0, G, g)]; });
  __syncthreads();

  for (int64_t t = 0; t < sizes.T; ++t) {
    real x[G], s[G]{};
    unrolled<G>([&](int g) { x[g] = next[g]; });
    if (lane.inside && t + 1 < sizes.T)
      unrolled<G>([&](int g) { next[g] = cell.args.x[at.at(t + 1, G, g)]; });
    if (lane.inside && t + kGateAhead < sizes.T)
      unrolled<G>([&](int g) { bring_near(cell.args.x + at.at(t + kGateAhead, G, g)); });
    if (t > 0 || begun) {
      real sums[R][G]{};
      weights.multiply(h[t], sums);
      sums_of_lanes(sums, lane.part, s);
    }
    unrolled<G>([&](int g) { s[g] += bias[g]; });
    const real now = cell.step(at, t, x, s, state, lane.writes);
    if (lane.tells()) h[t + 1][own] = lane.inside ? now : real(0);
    __syncthreads();
  }
  if (lane.writes) cell.finish(at, state);
}

template <class Cell, int R, int Held>
__global__ void __launch_bounds__(gate_threads(Held))
    gate_backward_kernel(const Cell cell, const GatePlan plan) {
  extern __shared__ GateQuad gate_room[];
  constexpr int G = Cell::kGates;
  // Chains of multiply-adds: one is too few, 16 take registers.
  constexpr int kSums = R > 1 ? 1 : G;
  const GateSizes sizes = cell.sizes();
  const GateLane<R> lane(sizes);
  const GateVectors vectors(gate_room, plan, G, G * R);
  const GateWeights<R, G, Held, true> weights(lane, sizes, plan, cell.args.forward.weight,
                                              gate_room);
  const GateChannel& at = lane.at;
  typename Cell::Carry carry{};
  typename Cell::Loaded next{};
  if (lane.inside) carry = cell.last(at);
  if (lane.inside && sizes.T > 0) next = cell.load(at, sizes.T - 1);

  for (int64_t t = sizes.T - 1; t >= 0; --t) {
    const typename Cell::Loaded now = next;
    if (lane.inside && t > 0) next = cell.load(at, t - 1);
    if (lane.inside && t >= kGateAhead) cell.each_read(at, t - kGateAhead, bring_near);
    real ds[G], sums[R][kSums]{}, back[R][1], own[1];
    cell.step(at, t, now, carry, ds, lane.writes);
    if (t == 0 && cell.args.dh0 == nullptr) break;
    if (lane.tells())
      unrolled<G>([&](int g) {
        vectors[t][(g * R + lane.row) * plan.stride + lane.channel] = lane.inside ? ds[g] : real(0);
      });
    __syncthreads();
    weights.multiply(vectors[t], sums);
    unrolled<R>([&](int r) {
      back[r][0] = sums[r][0];
      unrolled<kSums - 1>([&](int g) { back[r][0] += sums[r][g + 1]; });
    });
    sums_of_lanes(back, lane.part, own);
    carry.dh += own[0];
  }
  if (lane.writes) cell.finish(at, carry);
}

// Bytes of the vectors of a block.
template <int R>
constexpr int64_t gate_vector_bytes(int64_t rows, int64_t d) {
  return 2 * R * rows * ((d + kGateDepth - 1) / kGateDepth * kGateDepth + 8) *
         int64_t{sizeof(real)};
}
static_assert(kDouble || gate_vector_bytes<kGateLanes>(4, kMostOfHead) <= kLeastBlockBytes);

// How a sweep of R sequences a block starts.
struct GateStart {
  GatePlan plan;
  Grid grid;
};
template <int R, int Held, bool kBack>
GateStart gate_start(Cuda cuda, const GateSizes& sizes, int gates, const real* weight) {
  const int threads = static_cast<int>(ceil_div(sizes.d, kWarp / kGateLanes)) * kWarp;
  const int quads = static_cast<int>(ceil_div(sizes.d, kGateDepth));
  const int64_t vectors = gate_vector_bytes<R>(kBack ? gates : 1, sizes.d);
  const int64_t quad = gates * threads * int64_t{sizeof(GateQuad)};
  const int64_t room = std::max<int64_t>(0, gpu(cuda).forms.block_bytes - vectors) / quad;
  const int resident = static_cast<int>(std::clamp<int64_t>(quads - Held, 0, room));
  return {.plan = {.quads = quads,
                   .resident = resident,
                   .stride = quads * kGateDepth + 8,
                   .aligned = sizes.d % kGateQuad == 0 && quads_aligned(weight)},
          .grid = {.blocks = sizes.heads * ceil_div(sizes.B, R),
                   .threads = threads,
                   .shared_bytes = static_cast<size_t>(vectors + resident * quad)}};
}

// visit(R, Held) as constants: one sequence a block where that makes few blocks. By sizes alone, so that
// bits are too.
template <class Visit>
void with_gate_form(const GateSizes& sizes, const Visit& visit) {
  constexpr int64_t kFew = 128;
  const bool few = sizes.B * sizes.heads <= kFew;
  if (sizes.d <= kMostOfHead / 2)
    few ? visit(Constant<1>(), Constant<4>()) : visit(Constant<kGateLanes>(), Constant<4>());
  else
    few ? visit(Constant<1>(), Constant<2>()) : visit(Constant<kGateLanes>(), Constant<2>());
}

template <bool kBack, class Cell>
void start_gates(Cuda cuda, std::string_view name, const Cell& cell, const real* weight) {
  with_gate_form(cell.sizes(), [&](auto rows, auto held) {
    constexpr int R = decltype(rows)::value, Held = decltype(held)::value;
    const GateStart at = gate_start<R, Held, kBack>(cuda, cell.sizes(), Cell::kGates, weight);
    if constexpr (kBack)
      start(cuda, name, gate_backward_kernel<Cell, R, Held>, at.grid, cell, at.plan);
    else
      start(cuda, name, gate_forward_kernel<Cell, R, Held>, at.grid, cell, at.plan);
  });
}

}  // namespace fprnn::cuda
