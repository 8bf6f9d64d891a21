// A block takes 64 vectors and 32 rows through all of D, four warps a quarter each; what comes in is on its
// way three pieces ahead.
//
// cuBLAS's kernel for tf32 is a little faster alone, and slower beside teams that fill a
// multiprocessor's registers (cuda/ladder/README.md). A guess: its blocks wait until a
// multiprocessor is empty, and the teams that wait for the product wait with them. A block of this
// one, of 64 registers a thread and 48 KB, fits where one team of two has left.
#include <fprnn/cuda/async_copy.cuh>
#include <fprnn/cuda/half_product.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

namespace {

// R rows of 64 numbers of a matrix (count, D) in shared memory, from `first` on; those beyond the last are the last
// again. Eights are placed so that a load of eight rows meets all banks. A block of kThreads brings
// them, and all that an address has besides the piece's number is reckoned once.
template <int R, int kThreads>
class HalfPiece {
 public:
  static constexpr int kEights = 8, kBytes = R * kEights * static_cast<int>(sizeof(Halves8));
  __device__ __forceinline__ HalfPiece(const Halves8* from, int first, int count, int D,
                                       uint32_t shared)
      : shared_(shared), to_(shared + place(own_row(), own_eight())) {
    unrolled<kEach>([&](int i) {
      from_[i] = from + int64_t{::min(first + own_row() + i * kStep, count - 1)} * (D / kHalves) +
                 own_eight();
    });
  }
  // Piece i to a stage that is so many bytes further.
  __device__ __forceinline__ void bring(int i, uint32_t stage) const {
    unrolled<kEach>(
        [&](int k) { copy_quad_async(to_ + stage + place(k * kStep, 0), from_[k] + i * kEights); });
  }
  // Four tiles of 8 by 8: the lane says which row and eight it points at.
  __device__ __forceinline__ void load(uint32_t stage, int row, int eight,
                                       uint32_t (&to)[4]) const {
    load_tiles(shared_ + stage + place(row, eight), to);
  }

 private:
  static constexpr int kStep = kThreads / kEights, kEach = R / kStep;
  static_assert(kStep % 8 == 0 && R % kStep == 0);
  static __device__ __forceinline__ int own_row() {
    return static_cast<int>(threadIdx.x) / kEights;
  }
  static __device__ __forceinline__ int own_eight() {
    return static_cast<int>(threadIdx.x) % kEights;
  }
  static __device__ __forceinline__ uint32_t place(int row, int eight) {
    return static_cast<uint32_t>(row * kEights + (eight ^ row % 8)) * sizeof(Halves8);
  }
  uint32_t shared_, to_;
  const Halves8* from_[kEach];
};

constexpr int kHalfVectors = 64, kHalfRows = 32, kHalfThreads = 128, kHalfStages = 4;
using VectorPiece = HalfPiece<kHalfVectors, kHalfThreads>;
using RowPiece = HalfPiece<kHalfRows, kHalfThreads>;
constexpr int kHalfStage = VectorPiece::kBytes + RowPiece::kBytes;

// A warp's sums, of 32 vectors and 16 rows from these on.
__device__ __forceinline__ void put_sums(const HalfProduct& args, const float (&sums)[2][2][4],
                                         int vector, int row) {
  const int lane = lane_of();
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int v = vector + 16 * m + 8 * half + lane / 4;
      if (v >= args.count) continue;
      const float factor = args.factor[v];
      unrolled<2>([&](int n) {
        unrolled<2>([&](int j) {
          const int r = row + 8 * n + lane % 4 * 2 + j;
          if (r < args.P)
            args.out[v * args.stride + r] = sums[m][n][half * 2 + j] * (factor * args.w.scale[r]);
        });
      });
    }
}

__global__ void __launch_bounds__(kHalfThreads) half_product_kernel(const HalfProduct args) {
  extern __shared__ Halves8 stages[];
  const int across = (args.P + kHalfRows - 1) / kHalfRows;
  const int vector = static_cast<int>(blockIdx.x) / across * kHalfVectors,
            row = static_cast<int>(blockIdx.x) % across * kHalfRows;
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(stages));
  const VectorPiece vectors(reinterpret_cast<const Halves8*>(args.vectors), vector, args.count,
                            args.D, shared);
  const RowPiece rows(args.w.rows, row, args.P, args.D, shared + VectorPiece::kBytes);
  const int pieces = args.D / (RowPiece::kEights * kHalves);
  const auto bring = [&](int i, int stage) {
    if (i < pieces) {
      vectors.bring(i, stage * kHalfStage);
      rows.bring(i, stage * kHalfStage);
    }
    commit_async();
  };

  // A warp has 32 vectors and 16 rows.
  const int lane = lane_of(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int of_vectors = warp / 2 * 32, of_rows = warp % 2 * 16;
  float sums[2][2][4]{};
#pragma unroll
  for (int i = 0; i < kHalfStages - 1; ++i) bring(i, i);
  int now = 0, free = kHalfStages - 1;
#pragma unroll 1
  for (int i = 0; i < pieces; ++i) {
    wait_async<kHalfStages - 2>();
    __syncthreads();
    bring(i + kHalfStages - 1, free);
    const uint32_t stage = now * kHalfStage;
    free = now;
    now = (now + 1) % kHalfStages;
#pragma unroll
    for (int eight = 0; eight < RowPiece::kEights; eight += 2) {
      uint32_t a[2][4], b[4];
      unrolled<2>([&](int m) {
        vectors.load(stage, of_vectors + 16 * m + lane % 16, eight + lane / 16, a[m]);
      });
      rows.load(stage, of_rows + lane / 16 * 8 + lane % 8, eight + lane / 8 % 2, b);
      unrolled<2>([&](int m) {
        unrolled<2>([&](int n) {
          multiply_halves(sums[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[2 * n], b[2 * n + 1]);
        });
      });
    }
  }

  put_sums(args, sums, vector + of_vectors, row + of_rows);
}

}  // namespace

void multiply_halves(Cuda cuda, const HalfProduct& args) {
  start(cuda, "half_product", half_product_kernel,
        {.blocks = ceil_div(args.count, kHalfVectors) * ceil_div(args.P, kHalfRows),
         .threads = kHalfThreads,
         .shared_bytes = kHalfStages * kHalfStage},
        args);
}

}  // namespace fprnn::cuda
