// Adaptive computation time through all tokens in one kernel (ops/act.md, "On a GPU"), with the products
// and lanes of cuda/gate_sweep.cuh. A round is one cell of each of a block's sequences, of whichever token
// and step each is at. What a round needs of all channels, a halting logit or the cotangent of a weight,
// is summed in each warp and then by every lane from all warps' sums in one order: all lanes of a sequence
// have the same bits and decide alike. A round has two barriers:
//   forward    product, cell, warps' sums | logit, decision, the next state |
//   backward   warps' sums | logit's cotangent, cell, ds | product
// so vectors and sums each have one of the two places of a block's vectors.
#pragma once

#include <fprnn/cuda/gate_sweep.cuh>
#include <fprnn/ops/act.h>
#include <fprnn/ops/recurrent_cells.h>

namespace fprnn::cuda {

// Where h and c stand in a cell's row of the log.
inline constexpr int kActH = kRecurrentSaved, kActC = kActH + 1;

// A cell's row of the log: what its gradient takes, h, c of an lstm, p and the weight.
template <class Cell>
struct ActRow {
  static constexpr int kParts = kRecurrentSaved + (Cell::kCarriesC ? 2 : 1);
  FPRNN_HOST_DEVICE static int64_t numbers(int64_t H) { return kParts * H + 2; }
};

// Each row's sums over the channels of a warp -> (warps, R).
template <int R>
__device__ __forceinline__ void tell_warp_sum(real x, int row, real* sums) {
  unrolled<3>([&](int i) { x += __shfl_xor_sync(kAllLanes, x, kGateLanes << i); });
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (lane < R) sums[static_cast<int>(threadIdx.x) / kWarp * R + row] = x;
}
template <int R>
__device__ __forceinline__ real sum_of_warps(const real* sums, int row) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  real x = 0;
  for (int i = 0; i < warps; ++i) x += sums[i * R + row];
  return x;
}
// (warps, R) has room where R vectors have: a warp has 8 channels.
static_assert(kWarp / kGateLanes == 8);

}  // namespace fprnn::cuda
