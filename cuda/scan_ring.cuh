// Streams of a scan: 32 columns of several (B, T, D) arrays through shared memory, far ahead of the
// warp that reads them.
//
// A column is a channel of a sequence, numbered b D + d; 32 neighbours are a unit, which one warp
// takes through all of a piece of time, one column a lane. A warp alone must keep many kilobytes on
// their way, more than its registers hold, so what it reads passes a ring in shared memory: stages
// of 8 steps, filled by cp.async while earlier ones are consumed. The ring is the warp's own, and
// nothing waits for other warps.
#pragma once

#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/ops/scan.h>

namespace fprnn::cuda {

// The ops' contracts, of all sizes (scan_ring.cu).
void scan_in_ring(Cuda cuda, const ScanForward& args);
void scan_in_ring(Cuda cuda, const ScanBackward& args);
// Columns so few, and time so long, that time is taken in pieces at once.
bool ring_splits_time(int64_t B, int64_t T, int64_t D);

// The H200's, as a number: results must depend on sizes alone.
constexpr int64_t kMultiprocessors = 132;

// How columns and time are divided.
struct ScanPlan {
  int64_t T, D, columns, units;    // B D columns, in units of 32
  bool descending = false;         // from the last step in memory to the first
  bool quads = false;              // quads of columns are aligned in all arrays that are read
  int64_t pieces = 1, length = T;  // of time, each of `length` steps but the last
  int stages = 2;                  // of the ring
};

// What one warp does of it: its first column, and its steps, numbered in the order of processing.
struct ScanShare {
  int64_t column, piece, begin, steps, stride;

  __device__ explicit ScanShare(const ScanPlan& plan)
      : column(blockIdx.x % plan.units * kWarp),
        piece(blockIdx.x / plan.units),
        begin(piece * plan.length),
        steps(plan.length < plan.T - begin ? plan.length : plan.T - begin),
        stride(plan.descending ? -plan.D : plan.D) {}

  // Where in (B, T, D) a column's first step is.
  __device__ int64_t first(const ScanPlan& plan, int64_t column) const {
    const int64_t t = plan.descending ? plan.T - 1 - begin : begin;
    return (column / plan.D * plan.T + t) * plan.D + column % plan.D;
  }
};

constexpr int kScanSteps = 8;  // of a stage
template <int Arrays>
constexpr int kScanStage = Arrays* kScanSteps* kWarp;  // reals: (array, step, column)

// Asks for one stage; a lane copies Width neighbouring columns of every Width-th step.
template <int Arrays, int Width, class Source>
__device__ __forceinline__ void fetch_stage(real* stage, int64_t step, const ScanShare& share,
                                            int64_t columns, int64_t first, const Source& source) {
  constexpr int kAcross = kWarp / Width;
  const int lane = threadIdx.x, row = lane / kAcross, across = lane % kAcross * Width;
  const int64_t column = share.column + across;
#pragma unroll
  for (int k = 0; k < kScanSteps; k += Width) {
    const int64_t s = step + row + k;
    const bool exists = s < share.steps && column < columns;
#pragma unroll
    for (int array = 0; array < Arrays; ++array) {
      const auto [from, present] = source(array, first + s * share.stride, s, column);
      copy_async<Width * sizeof(real)>(stage + (array * kScanSteps + row + k) * kWarp + across,
                                       from, exists && present);
    }
  }
}

// An address, and whether anything is there; if not, zeros are.
struct ScanFrom {
  const real* from;
  bool present;
};

// body(x) for every step of the share in order, with x[array] of this lane's column; source(array,
// i, s, column) is a ScanFrom for step s of a column, which is at i in (B, T, D). Lanes beyond the
// last column see zeros.
//
// Stage c + Stages - 1 goes where stage c - 1 was: the __syncwarp that shows all lanes what each of
// them copied into stage c also says that all have read stage c - 1.
template <int Arrays, int Stages, class Source, class Body>
__device__ __forceinline__ void stream_scan(const ScanPlan& plan, const ScanShare& share,
                                            real* ring, const Source& source, const Body& body) {
  const int lane = threadIdx.x;
  const int across = plan.quads ? lane % (kWarp / Quad::kCount) * Quad::kCount : lane;
  const int64_t first = share.first(plan, share.column + across);
  const int64_t count = (share.steps + kScanSteps - 1) / kScanSteps;
  const auto stage_of = [&](int64_t c) {
    return ring + static_cast<unsigned>(c) % Stages * kScanStage<Arrays>;
  };
  const auto fetch = [&](int64_t c) {
    if (c < count && plan.quads)
      fetch_stage<Arrays, Quad::kCount>(stage_of(c), c * kScanSteps, share, plan.columns, first,
                                        source);
    else if (c < count)
      fetch_stage<Arrays, 1>(stage_of(c), c * kScanSteps, share, plan.columns, first, source);
    commit_async();
  };

  for (int c = 0; c < Stages - 1; ++c) fetch(c);
  for (int64_t c = 0; c < count; ++c) {
    wait_async<Stages - 2>();
    __syncwarp();
    fetch(c + Stages - 1);
    real x[kScanSteps][Arrays];
#pragma unroll
    for (int k = 0; k < kScanSteps; ++k)
#pragma unroll
      for (int array = 0; array < Arrays; ++array)
        x[k][array] = stage_of(c)[(array * kScanSteps + k) * kWarp + lane];
    const int64_t left = share.steps - c * kScanSteps;
#pragma unroll
    for (int k = 0; k < kScanSteps; ++k)
      if (k < left) body(x[k]);
  }
}

}  // namespace fprnn::cuda
