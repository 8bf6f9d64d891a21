// The ladder of the first-order scan (README.md). All rungs give a thread one column, a channel of a sequence,
// and take it through time; they differ in where the next steps' numbers wait until they are
// needed.
#include <fprnn/cuda/ladder/ladder.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/scan_ring.cuh>

namespace fprnn::ladder {

using namespace cuda;

namespace {

// A column's first step in the order of processing, and the way to the next.
struct Way {
  int64_t column, first, stride;
  template <class Scan>
  __device__ Way(const Scan& in, bool descending)
      : column(int64_t{blockIdx.x} * blockDim.x + threadIdx.x),
        first((column / in.D * in.T + (descending ? in.T - 1 : 0)) * in.D + column % in.D),
        stride(descending ? -in.D : in.D) {}
};

// 1. The definition: a thread a column, a step after the other. Every step waits for memory once,
// and all that is on its way are a step's two or three numbers a thread.
// 2. The same, a warp a block: 256 threads a block leave whole multiprocessors without one. That
// should not matter yet, since nobody's share of the memory is used.
__global__ void naive_forward_kernel(const ScanForward in) {
  const Way way(in, in.reverse);
  if (way.column >= in.B * in.D) return;
  real state = in.h0 == nullptr ? real(0) : in.h0[way.column];
  int64_t i = way.first;
#pragma unroll 1
  for (int64_t t = 0; t < in.T; ++t, i += way.stride) in.h[i] = state = in.a[i] * state + in.b[i];
}

__global__ void naive_backward_kernel(const ScanBackward in) {
  const Way way(in, !in.reverse);
  if (way.column >= in.B * in.D) return;
  const real first = in.h0 == nullptr ? real(0) : in.h0[way.column];
  real carry = 0;
  int64_t i = way.first;
#pragma unroll 1
  for (int64_t t = 0; t < in.T; ++t, i += way.stride) {
    const real g = in.dh[i] + carry;
    carry = in.a[i] * g;
    in.db[i] = g;
    in.da[i] = g * (t + 1 < in.T ? in.h[i + way.stride] : first);
  }
  in.dh0[way.column] = carry;
}

template <int kThreads>
void naive_forward(Cuda cuda, const ScanForward& in) {
  start(cuda, "naive_forward", naive_forward_kernel,
        {.blocks = ceil_div(in.B * in.D, kThreads), .threads = kThreads}, in);
}
template <int kThreads>
void naive_backward(Cuda cuda, const ScanBackward& in) {
  start(cuda, "naive_backward", naive_backward_kernel,
        {.blocks = ceil_div(in.B * in.D, kThreads), .threads = kThreads}, in);
}

// 3. The next kAhead steps are asked for before these are done, into registers: as many times more
// is on its way. Registers are what bounds it, and the names of their places: the loop has to be
// written out.
constexpr int kAhead = 16;

// read(step, place) for each of the kAhead steps from `step` on, then body(place) in order.
template <int Arrays, class Read, class Body>
__device__ __forceinline__ void stream_ahead(int64_t T, const Read& read, const Body& body) {
  real next[kAhead][Arrays], now[kAhead][Arrays];
  const auto ask = [&](int64_t from) {
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (from + k < T) read(from + k, next[k]);
  };
  ask(0);
  for (int64_t from = 0; from < T; from += kAhead) {
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
#pragma unroll
      for (int array = 0; array < Arrays; ++array) now[k][array] = next[k][array];
    ask(from + kAhead);
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (from + k < T) body(from + k, now[k]);
  }
}

__global__ void __launch_bounds__(kWarp) ahead_forward_kernel(const ScanForward in) {
  const Way way(in, in.reverse);
  if (way.column >= in.B * in.D) return;
  real state = in.h0 == nullptr ? real(0) : in.h0[way.column];
  stream_ahead<2>(
      in.T,
      [&](int64_t t, real(&x)[2]) {
        const int64_t i = way.first + t * way.stride;
        x[0] = __ldcs(in.a + i);
        x[1] = __ldcs(in.b + i);
      },
      [&](int64_t t, const real(&x)[2]) {
        state = x[0] * state + x[1];
        __stcs(in.h + way.first + t * way.stride, state);
      });
}

__global__ void __launch_bounds__(kWarp) ahead_backward_kernel(const ScanBackward in) {
  const Way way(in, !in.reverse);
  if (way.column >= in.B * in.D) return;
  const real first = in.h0 == nullptr ? real(0) : in.h0[way.column];
  real carry = 0;
  stream_ahead<3>(
      in.T,
      [&](int64_t t, real(&x)[3]) {
        const int64_t i = way.first + t * way.stride;
        x[0] = __ldcs(in.a + i);
        x[1] = t + 1 < in.T ? __ldcs(in.h + i + way.stride) : first;
        x[2] = __ldcs(in.dh + i);
      },
      [&](int64_t t, const real(&x)[3]) {
        const int64_t i = way.first + t * way.stride;
        const real g = x[2] + carry;
        carry = x[0] * g;
        __stcs(in.db + i, g);
        __stcs(in.da + i, g * x[1]);
      });
  in.dh0[way.column] = carry;
}

void ahead_forward(Cuda cuda, const ScanForward& in) {
  start(cuda, "ahead_forward", ahead_forward_kernel,
        {.blocks = ceil_div(in.B * in.D, kWarp), .threads = kWarp}, in);
}
void ahead_backward(Cuda cuda, const ScanBackward& in) {
  start(cuda, "ahead_backward", ahead_backward_kernel,
        {.blocks = ceil_div(in.B * in.D, kWarp), .threads = kWarp}, in);
}

// 4. Eight warps share 32 columns, each with an eighth of time: eight times more is on its way. A
// piece's product of a and what it makes of 0 are found first, then each warp goes through its
// piece again from the state that the pieces before it leave. a and b are read twice: 20 bytes an
// element instead of 12, and 28 instead of 20.
constexpr int kPieces = 8;

struct Piece {
  int64_t begin, end;
  __device__ explicit Piece(int64_t T)
      : begin(threadIdx.x / kWarp * T / kPieces), end((threadIdx.x / kWarp + 1) * T / kPieces) {}
};

// The state before this warp's piece. step(i, state) is one step of the recurrence at place i.
template <class Step>
__device__ __forceinline__ real state_before(const real* a, const Piece& piece, int64_t first,
                                             int64_t stride, bool inside, real start,
                                             const Step& step) {
  __shared__ real products[kPieces][kWarp], ends[kPieces][kWarp];
  const int warp = threadIdx.x / kWarp, lane = lane_of();
  real product = 1, end = 0;
#pragma unroll 8
  for (int64_t t = piece.begin; inside && t < piece.end; ++t) {
    product *= a[first + t * stride];
    end = step(first + t * stride, end);
  }
  products[warp][lane] = product;
  ends[warp][lane] = end;
  __syncthreads();
  real state = start;
  for (int w = 0; w < warp; ++w)
    state = state == 0 ? ends[w][lane] : products[w][lane] * state + ends[w][lane];
  return state;
}

// A warp's 32 columns: those of the block.
template <class Scan>
__device__ Way way_of_block(const Scan& in, bool descending) {
  Way way(in, descending);
  way.column = int64_t{blockIdx.x} * kWarp + lane_of();
  way.first = (way.column / in.D * in.T + (descending ? in.T - 1 : 0)) * in.D + way.column % in.D;
  return way;
}

__global__ void __launch_bounds__(kPieces* kWarp) pieces_forward_kernel(const ScanForward in) {
  const Way way = way_of_block(in, in.reverse);
  const bool inside = way.column < in.B * in.D;
  const Piece piece(in.T);
  const auto step = [&](int64_t i, real state) { return in.a[i] * state + in.b[i]; };
  real state = state_before(in.a, piece, way.first, way.stride, inside,
                            inside && in.h0 != nullptr ? in.h0[way.column] : real(0), step);
  int64_t i = way.first + piece.begin * way.stride;
#pragma unroll 8
  for (int64_t t = piece.begin; inside && t < piece.end; ++t, i += way.stride) {
    state = step(i, state);
    __stcs(in.h + i, state);
  }
}

__global__ void __launch_bounds__(kPieces* kWarp) pieces_backward_kernel(const ScanBackward in) {
  const Way way = way_of_block(in, !in.reverse);
  const bool inside = way.column < in.B * in.D;
  const Piece piece(in.T);
  const real first = inside && in.h0 != nullptr ? in.h0[way.column] : real(0);
  real carry = state_before(in.a, piece, way.first, way.stride, inside, 0,
                            [&](int64_t i, real c) { return in.a[i] * (in.dh[i] + c); });
  int64_t i = way.first + piece.begin * way.stride;
#pragma unroll 8
  for (int64_t t = piece.begin; inside && t < piece.end; ++t, i += way.stride) {
    const real g = in.dh[i] + carry;
    carry = in.a[i] * g;
    __stcs(in.db + i, g);
    __stcs(in.da + i, g * (t + 1 < in.T ? in.h[i + way.stride] : first));
  }
  if (inside && threadIdx.x / kWarp == kPieces - 1) in.dh0[way.column] = carry;
}

void pieces_forward(Cuda cuda, const ScanForward& in) {
  start(cuda, "pieces_forward", pieces_forward_kernel,
        {.blocks = ceil_div(in.B * in.D, kWarp), .threads = kPieces * kWarp}, in);
}
void pieces_backward(Cuda cuda, const ScanBackward& in) {
  start(cuda, "pieces_backward", pieces_backward_kernel,
        {.blocks = ceil_div(in.B * in.D, kWarp), .threads = kPieces * kWarp}, in);
}

// 5. The library's own ring (scan_ring.cuh): a, b, h, dh come through shared memory, as many bytes
// ahead as there is room; results go out of registers.
// 6. cuda/scan.cu itself: boxes in and out.
constexpr ScanRung kRungs[] = {
    {"naive", naive_forward<256>, naive_backward<256>},
    {"a warp a block", naive_forward<kWarp>, naive_backward<kWarp>},
    {"16 steps ahead", ahead_forward, ahead_backward},
    {"time in 8 pieces", pieces_forward, pieces_backward},
    {"ring", scan_in_ring, scan_in_ring},
    {"in use", run, run},
};

}  // namespace

std::span<const ScanRung> scan_rungs() { return kRungs; }

}  // namespace fprnn::ladder
