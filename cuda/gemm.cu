// Products by cuBLASLt. It counts in columns where we count in rows: C = op(A) op(B) in rows is
// C^T = op(B)^T op(A)^T in columns, the same memory with the factors exchanged. The algorithm is
// asked for once for each kind of product and kept.
//
// Hopper's tensor cores read tf32 factors with the summed axis contiguous. cuBLASLt's kernels for others turn
// them over as they go and reach two thirds of the speed (8704 x 1024 x 1152: 107 us for 63), so a
// B that is small beside what it is multiplied by is transposed first (5 us).
#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/pack.cuh>
#include <fprnn/ops/matmul.h>

#include <bit>

namespace fprnn {

namespace cuda {
namespace {

constexpr cudaDataType_t kType = kDouble ? CUDA_R_64F : CUDA_R_32F;

cublasComputeType_t compute_type(MatmulPrecision precision) {
  if (kDouble) return CUBLAS_COMPUTE_64F;
  return precision == MatmulPrecision::fp32   ? CUBLAS_COMPUTE_32F
         : precision == MatmulPrecision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                              : CUBLAS_COMPUTE_32F_FAST_16BF;
}

constexpr char kOfProduct[] = "describing a product", kOfMatrix[] = "describing a matrix",
               kOfAlgorithm[] = "choosing an algorithm";

// Descriptions that cuBLASLt makes and takes back; `doing` is for messages.
template <class Handle, auto kDestroy, auto kSet>
struct Owned {
  const char* doing;
  Handle handle = nullptr;
  explicit Owned(const char* doing) : doing(doing) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle != nullptr) kDestroy(handle);
  }
  template <class Attribute, class Value>
  void set(Attribute attribute, const Value& value) {
    check(kSet(handle, attribute, &value, sizeof value), doing);
  }
};
using Operation =
    Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy, cublasLtMatmulDescSetAttribute>;
using Layout =
    Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy, cublasLtMatrixLayoutSetAttribute>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy,
                         cublasLtMatmulPreferenceSetAttribute>;

// G products whose matrices are `stride` apart; G is 1 for a single one.
struct Product {
  Gemm gemm;
  int64_t G = 1;
};

// A stored matrix of these rows and columns, whose rows are ld apart, as cuBLASLt sees it.
void describe_matrix(Layout& layout, int64_t rows, int64_t columns, int64_t ld, int64_t G) {
  check(cublasLtMatrixLayoutCreate(&layout.handle, kType, columns, rows, ld), kOfMatrix);
  if (G == 1) return;
  layout.set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(G));
  layout.set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, rows * columns);
}

// Bytes, up to 256, that an address is a multiple of.
uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<uintptr_t>(address) | 256;
  return uint32_t{1} << std::countr_zero(bits);
}

struct Plan {
  Operation operation{kOfProduct};
  Layout a{kOfMatrix}, b{kOfMatrix}, c{kOfMatrix};
  uint32_t alignment[3];

  Plan(Cuda cuda, const Product& product) {
    const Gemm& g = product.gemm;
    check(cublasLtMatmulDescCreate(&operation.handle, compute_type(gpu(cuda).matmul_precision),
                                   kType),
          kOfProduct);
    const auto side = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    operation.set(CUBLASLT_MATMUL_DESC_TRANSA, side(g.transpose_b));
    operation.set(CUBLASLT_MATMUL_DESC_TRANSB, side(g.transpose_a));
    if (g.bias != nullptr) {
      operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      operation.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
    }
    describe_matrix(a, g.transpose_a ? g.K : g.M, g.transpose_a ? g.M : g.K, g.lda, product.G);
    describe_matrix(b, g.transpose_b ? g.N : g.K, g.transpose_b ? g.K : g.N, g.ldb, product.G);
    describe_matrix(c, g.M, g.N, g.ldc, product.G);
    alignment[0] = alignment_of(g.a);
    alignment[1] = alignment_of(g.b);
    alignment[2] = alignment_of(g.c);
  }

  cublasLtMatmulAlgo_t choose(Cuda cuda, const Gemm& g) const {
    Preference preference{kOfAlgorithm};
    check(cublasLtMatmulPreferenceCreate(&preference.handle), kOfAlgorithm);
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, CudaDevice::kWorkspaceBytes);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment[1]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment[0]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment[2]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment[2]);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(gpu(cuda).blas, operation.handle, b.handle, a.handle,
                                         c.handle, c.handle, preference.handle, 1, &result, &found),
          kOfAlgorithm);
    require<DeviceError>(found > 0, "cuda", "cuBLAS must know the product: M, N, K", g.M, g.N, g.K);
    return result.algo;
  }
};

void multiply(Cuda cuda, const Product& product) {
  const Gemm& g = product.gemm;
  const Plan plan(cuda, product);
  const ProductKind kind{
      g.M,
      g.N,
      g.K,
      g.lda,
      g.ldb,
      g.ldc,
      product.G,
      plan.alignment[0],
      plan.alignment[1],
      plan.alignment[2],
      g.transpose_a + 2 * g.transpose_b + 4 * g.accumulate + 8 * (g.bias != nullptr)};
  auto& known = gpu(cuda).algorithms;
  auto found = known.find(kind);
  if (found == known.end()) found = known.emplace(kind, plan.choose(cuda, g)).first;
  const real one = 1, start_from = g.accumulate ? 1 : 0;
  check(cublasLtMatmul(gpu(cuda).blas, plan.operation.handle, &one, g.b, plan.b.handle, g.a,
                       plan.a.handle, &start_from, g.c, plan.c.handle, g.c, plan.c.handle,
                       &found->second, gpu(cuda).workspace, CudaDevice::kWorkspaceBytes,
                       stream(cuda)),
        "a product of matrices");
}

// to (columns, rows) <- from (rows, columns), whose rows are ld apart. A block turns a square over.
constexpr int kSide = 32, kRowsAtOnce = 8;
__global__ void __launch_bounds__(kSide* kRowsAtOnce)
    transpose_kernel(const real* from, real* to, int64_t rows, int64_t columns, int64_t ld) {
  __shared__ real square[kSide][kSide + 1];
  const int64_t across = (columns + kSide - 1) / kSide, row = blockIdx.x / across * kSide,
                column = blockIdx.x % across * kSide;
  const int lane = threadIdx.x % kSide, first = threadIdx.x / kSide;
#pragma unroll
  for (int i = first; i < kSide; i += kRowsAtOnce)
    if (row + i < rows && column + lane < columns)
      square[i][lane] = from[(row + i) * ld + column + lane];
  __syncthreads();
#pragma unroll
  for (int i = first; i < kSide; i += kRowsAtOnce)
    if (column + i < columns && row + lane < rows)
      to[(column + i) * rows + row + lane] = square[lane][i];
}

// From about where that is won back, and not for a B larger than what it meets: its transpose takes memory.
bool better_transposed(Cuda cuda, const Gemm& g) {
  constexpr int64_t kRows = 2048, kProducts = 4'000'000'000;
  return !kDouble && gpu(cuda).matmul_precision == MatmulPrecision::tf32 && !g.transpose_a &&
         !g.transpose_b && g.M >= kRows && g.N <= g.M && g.M * g.N * g.K >= kProducts &&
         g.K % Quad::kCount == 0 && g.lda % Quad::kCount == 0 && quads_aligned(g.a);
}

void multiply_transposed(Cuda cuda, const Gemm& g) {
  const Tensor b(cuda.context, {g.N, g.K});
  start(cuda, "transpose", transpose_kernel,
        {.blocks = ceil_div(g.K, kSide) * ceil_div(g.N, kSide), .threads = kSide * kRowsAtOnce},
        g.b, b.data(), g.K, g.N, g.ldb);
  Gemm turned = g;
  turned.b = b.data();
  turned.ldb = g.K;
  turned.transpose_b = true;
  multiply(cuda, {turned});
}

// A product over nothing: C stays, or is the bias, or 0.
void without_products(Cuda cuda, const Gemm& g) {
  if (g.accumulate) return;
  for_each(cuda, "gemm_without_products", g.M * g.N, [g] __device__(int64_t i) {
    g.c[i / g.N * g.ldc + i % g.N] = g.bias != nullptr ? g.bias[i % g.N] : real(0);
  });
}

}  // namespace
}  // namespace cuda

using namespace cuda;

void run(Cuda cuda, const Gemm& args) {
  if (args.M == 0 || args.N == 0) return;
  if (args.K == 0) return without_products(cuda, args);
  // Rows of C meet no others: more than cuBLASLt counts are taken in parts.
  constexpr int64_t kMost = int64_t{1} << 30;
  require<ShapeError>(args.N < kMost && args.K < kMost, "matmul",
                      "a side must be below 2^30 on the GPU", args.N, args.K);
  for (int64_t row = 0; row < args.M; row += kMost) {
    Gemm part = args;
    part.M = std::min(kMost, args.M - row);
    part.a += args.transpose_a ? row : row * args.lda;
    part.c += row * args.ldc;
    better_transposed(cuda, part) ? multiply_transposed(cuda, part) : multiply(cuda, {part});
  }
}

void run(Cuda cuda, const BatchedGemm& args) {
  const int64_t C = args.M * args.N;
  if (args.G == 0 || C == 0) return;
  const Gemm first{.a = args.a,
                   .b = args.b,
                   .c = args.c,
                   .M = args.M,
                   .N = args.N,
                   .K = args.K,
                   .lda = args.transpose_a ? args.M : args.K,
                   .ldb = args.transpose_b ? args.K : args.N,
                   .ldc = args.N,
                   .transpose_a = args.transpose_a,
                   .transpose_b = args.transpose_b};
  if (args.K == 0) {
    Gemm flat = first;
    flat.M = args.G * args.M;
    return without_products(cuda, flat);
  }
  constexpr int64_t kMost = 1 << 15;  // products that one call takes
  for (int64_t g = 0; g < args.G; g += kMost) {
    Gemm part = first;
    part.a += g * args.M * args.K;
    part.b += g * args.K * args.N;
    part.c += g * C;
    multiply(cuda, {part, std::min(kMost, args.G - g)});
  }
}

}  // namespace fprnn
