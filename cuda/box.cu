#include <cudaTypedefs.h>
#include <fprnn/core/check.h>
#include <fprnn/cuda/box.cuh>
#include <fprnn/cuda/device.cuh>

namespace fprnn::cuda {

namespace {

using Encode = PFN_cuTensorMapEncodeTiled_v12000;

// The driver's own function, asked for when running: nothing is linked against the driver.
Encode find_encode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSince = 12000;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, kSince,
                                         cudaEnableDefault, &found),
        "finding the driver's description of boxes");
  require<DeviceError>(found == cudaDriverEntryPointSuccess, "cuda",
                       "the driver must be able to describe boxes: what it answered",
                       static_cast<int>(found));
  return reinterpret_cast<Encode>(entry);
}

}  // namespace

bool boxes_fit(const BoxSizes& sizes) {
  const auto numbered = [](int64_t size) { return 0 < size && size <= int64_t{1} << 30; };
  constexpr int64_t kFarthest = (int64_t{1} << 40) / static_cast<int64_t>(sizeof(real));
  return numbered(sizes.B) && numbered(sizes.T) && numbered(sizes.D) && sizes.steps <= sizes.T &&
         sizes.channels <= sizes.D && sizes.D % Quad::kCount == 0 && sizes.T * sizes.D < kFarthest;
}

CUtensorMap box_map(const real* array, const BoxSizes& sizes) {
  static const Encode encode = find_encode();
  const auto row = static_cast<cuuint64_t>(sizes.D) * sizeof(real);
  const cuuint64_t size[] = {static_cast<cuuint64_t>(sizes.D), static_cast<cuuint64_t>(sizes.T),
                             static_cast<cuuint64_t>(sizes.B)};
  const cuuint64_t distances[] = {row, row * static_cast<cuuint64_t>(sizes.T)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(sizes.channels),
                            static_cast<cuuint32_t>(sizes.steps), 1};
  const cuuint32_t every[] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, kDouble ? CU_TENSOR_MAP_DATA_TYPE_FLOAT64 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 3,
             const_cast<real*>(array), size, distances, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require<DeviceError>(status == CUDA_SUCCESS, "cuda",
                       "boxes of (B, T, D) must be possible: the driver's answer, B, T, D",
                       static_cast<int>(status), sizes.B, sizes.T, sizes.D);
  return map;
}

}  // namespace fprnn::cuda
