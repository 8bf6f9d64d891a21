// How numbers come into 16 bits (cuda/half_rows.cuh).
#include <fprnn/cuda/half_rows.cuh>

namespace fprnn::cuda {

namespace {

constexpr int kRows = 4;  // of a block, a warp each

__global__ void half_rows_kernel(const real* x, int64_t count, int64_t D, __half* rows,
                                 float* scale) {
  const int64_t row = row_of_warp<kRows>();
  if (row >= count) return;
  const real* const from = x + row * D;
  float largest = 0;
  for (int64_t d = lane_of(); d < D; d += kWarp)
    largest = LargerSize()(::fabsf(static_cast<float>(from[d])), largest);
  const float factor = scale_to_one(warp_largest(largest));
  for (int64_t d = lane_of(); d < D; d += kWarp)
    rows[row * D + d] = __float2half_rn(static_cast<float>(from[d]) * factor);
  if (lane_of() == 0) scale[row] = inverse_of_power(factor);
}

}  // namespace

void make_half_rows(Cuda cuda, const real* x, int64_t count, int64_t D, __half* rows,
                    float* scale) {
  start(cuda, "half_rows", half_rows_kernel, rows_by_warps<kRows>(count), x, count, D, rows, scale);
}

KeptHalfRows::KeptHalfRows(Cuda cuda, int64_t count, int64_t D)
    : rows(cuda.context, {count * D * int64_t{sizeof(__half)} / int64_t{sizeof(real)}}),
      scale(cuda.context, {count}),
      half{reinterpret_cast<const Halves8*>(rows.data()), scales()} {}

KeptHalfRows::KeptHalfRows(Cuda cuda, const real* x, int64_t count, int64_t D)
    : KeptHalfRows(cuda, count, D) {
  make_half_rows(cuda, x, count, D, numbers(), scales());
}

}  // namespace fprnn::cuda
