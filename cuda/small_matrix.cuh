// Products of matrices of a few rows by the threads that share a token: a warp with its matrices in shared
// memory, or a block where they are large. Sizes are numbers or constants (std::integral_constant), for
// which loops are written out. A matrix is any function of row and column. In shared memory rows are an
// odd number of reals apart, so that neighbouring lanes meet different banks by rows and by columns.
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/block.cuh>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>

namespace fprnn::cuda {

template <int N>
using Constant = std::integral_constant<int, N>;

// The distance of rows in shared memory.
FPRNN_HOST_DEVICE constexpr int64_t odd_stride(int64_t m) { return m | 1; }

template <bool kBlock>
struct Team {
  static constexpr bool kIsBlock = kBlock;
  static constexpr int kSize = kBlock ? 256 : kWarp;
  // What the elements of a token's matrices are counted in.
  using Index = std::conditional_t<kBlock, int64_t, int>;

  int rank;      // of this thread
  real* shared;  // 32 reals for a block's sums

  __device__ __forceinline__ Team(real* shared = nullptr)
      : rank(threadIdx.x % kSize), shared(shared) {}

  __device__ __forceinline__ void sync() const {
    if constexpr (kBlock)
      __syncthreads();
    else
      __syncwarp();
  }
  __device__ __forceinline__ real sum(real x) const {
    if constexpr (kBlock) return block_sum(x, shared);
    return warp_sum(x);
  }
  // x is neither negative nor NaN: the order of such floats is that of their bits.
  __device__ __forceinline__ real largest(real x) const {
    if constexpr (kBlock) return block_max(x, shared);
    if constexpr (!kBlock && sizeof(real) == sizeof(float))
      return __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(x)));
    return warp_max(x);
  }
  __device__ __forceinline__ bool any(bool x) const {
    if constexpr (kBlock) return __syncthreads_or(x);
    return __any_sync(kAllLanes, x);
  }

  // visit(i) for the thread's own i < n.
  template <class N, class Visit>
  __device__ __forceinline__ void each(N n, const Visit& visit) const {
    for (Index i = rank; i < n; i += kSize) visit(i);
  }
  // The sum of term(i) for all i < n.
  template <class N, class Term>
  __device__ __forceinline__ real sum_of(N n, const Term& term) const {
    real total = 0;
    each(n, [&](Index i) { total += term(i); });
    return sum(total);
  }
  // visit(i, j) for the thread's own elements of a matrix (m, n), neighbours in a row for neighbours.
  template <class M, class N, class Visit>
  __device__ __forceinline__ void each_element(M m, N n, const Visit& visit) const {
    const Index rows = m, columns = n;
#pragma unroll 4
    for (Index t = rank; t < rows * columns; t += kSize) visit(t / n, t % n);
  }
  // What is contiguous, to such a place, or to a matrix (m, n) in shared memory.
  template <class N>
  __device__ __forceinline__ void copy(N n, const real* from, real* to) const {
#pragma unroll 8
    for (Index i = rank; i < n; i += kSize) to[i] = from[i];
  }
  template <class M, class N>
  __device__ __forceinline__ void copy_rows(M m, N n, const real* from, real* to) const {
    each_element(m, n, [&](Index i, Index j) {
      to[i * static_cast<Index>(odd_stride(n)) + j] = from[i * n + j];
    });
  }
  // give(i, the sum of term(i, j) over j < n) for all i < m: a lane, or a warp of a block, takes a row.
  template <class M, class N, class Term, class Give>
  __device__ __forceinline__ void row_sums(M m, N n, const Term& term, const Give& give) const {
    constexpr int kTogether = kBlock ? kWarp : 1;
    for (Index i = rank / kTogether; i < m; i += kSize / kTogether) {
      real total = 0;
#pragma unroll 8
      for (Index j = rank % kTogether; j < n; j += kTogether) total += term(i, j);
      if constexpr (kBlock) total = warp_sum(total);
      if (rank % kTogether == 0) give(i, total);
    }
  }
};

// How many rows and columns of a product a thread takes at once, and whether the product is made of whole
// tiles.
template <class M, class N>
struct Tile {
  static constexpr int kRows = 2, kColumns = 2;
  static constexpr bool kWhole = false;
};
template <int M, int N>
struct Tile<Constant<M>, Constant<N>> {
  static constexpr int kElements = M * N / kWarp;  // of each lane
  static constexpr int kRows = kElements >= 32 ? 8 : kElements >= 8 ? 4 : kElements >= 2 ? 2 : 1;
  static constexpr int kColumns = kElements >= 16 ? 4 : kElements >= 4 ? 2 : 1;
  static constexpr bool kWhole = M % kRows == 0 && N % kColumns == 0;
};

// give(i, j, the sum of a(i, l) b(l, j) over l < k) for all i < m, j < n. The rows and columns of a tile lie
// as far apart as there are tiles, so that neighbouring threads have neighbouring ones.
template <class T, class M, class K, class N, class A, class B, class Give>
__device__ __forceinline__ void small_product(const T& team, M m, K k, N n, const A& a, const B& b,
                                              const Give& give) {
  using Index = typename T::Index;
  constexpr int kRows = Tile<M, N>::kRows, kColumns = Tile<M, N>::kColumns;
  constexpr bool kWhole = Tile<M, N>::kWhole;
  const Index rows = (m + kRows - 1) / kRows, columns = (n + kColumns - 1) / kColumns;
  for (Index tile = team.rank; tile < rows * columns; tile += T::kSize) {
    Index i[kRows], j[kColumns];
#pragma unroll
    for (int p = 0; p < kRows; ++p) {
      i[p] = tile / columns + p * rows;
      if (!kWhole && i[p] >= m) i[p] = m - 1;
    }
#pragma unroll
    for (int q = 0; q < kColumns; ++q) {
      j[q] = tile % columns + q * columns;
      if (!kWhole && j[q] >= n) j[q] = n - 1;
    }
    real total[kRows][kColumns]{};
#pragma unroll 8
    for (Index l = 0; l < k; ++l) {
      real x[kRows], y[kColumns];
#pragma unroll
      for (int p = 0; p < kRows; ++p) x[p] = a(i[p], l);
#pragma unroll
      for (int q = 0; q < kColumns; ++q) y[q] = b(l, j[q]);
#pragma unroll
      for (int p = 0; p < kRows; ++p)
#pragma unroll
        for (int q = 0; q < kColumns; ++q) total[p][q] += x[p] * y[q];
    }
#pragma unroll
    for (int p = 0; p < kRows; ++p)
#pragma unroll
      for (int q = 0; q < kColumns; ++q)
        if (kWhole || (tile / columns + p * rows < m && tile % columns + q * columns < n))
          give(i[p], j[q], total[p][q]);
  }
}

// Working space of a kernel whose teams take tokens in turns: `reals` for each team, in shared memory or, for
// blocks where that does not do, in `scratch`.
struct Workspace {
  int64_t reals;
  real* scratch;
};

// visit(team, token, space) for all tokens. Space begins at a multiple of 16 bytes.
template <bool kBlock, class Visit>
__device__ __forceinline__ void for_tokens(int64_t tokens, const Workspace& workspace,
                                           const Visit& visit) {
  extern __shared__ __align__(16) unsigned char bytes[];
  real* const shared = reinterpret_cast<real*>(bytes);
  if constexpr (kBlock) {
    __shared__ real sums[kWarp];
    const Team<true> team(sums);
    real* const space = workspace.scratch == nullptr
                            ? shared
                            : workspace.scratch + int64_t{blockIdx.x} * workspace.reals;
    for (int64_t token = blockIdx.x; token < tokens; token += gridDim.x) {
      visit(team, token, space);
      team.sync();
    }
  } else {
    const Team<false> team;
    const int teams = blockDim.x / kWarp, number = threadIdx.x / kWarp;
    const int64_t token = int64_t{blockIdx.x} * teams + number;
    if (token < tokens) visit(team, token, shared + number * workspace.reals);
  }
}

// Starts kernel(args..., Workspace) over tokens with `reals` of working space for each.
template <bool kBlock, class Kernel, class... Args>
void start_teams(Cuda cuda, std::string_view name, Kernel kernel, int64_t tokens, int64_t reals,
                 int teams, const Args&... args) {
  constexpr int64_t kMostShared = 96 << 10;
  reals = ceil_div(reals, Quad::kCount) * Quad::kCount;
  const size_t bytes = reals * sizeof(real);
  if constexpr (!kBlock) {
    start(cuda, name, kernel,
          {.blocks = ceil_div(tokens, teams),
           .threads = teams * kWarp,
           .shared_bytes = teams * bytes},
          args..., Workspace{reals, nullptr});
  } else if (static_cast<int64_t>(bytes) <= kMostShared) {
    start(cuda, name, kernel,
          {.blocks = std::min<int64_t>(tokens, INT32_MAX),
           .threads = Team<true>::kSize,
           .shared_bytes = bytes},
          args..., Workspace{reals, nullptr});
  } else {
    const int64_t blocks = std::min<int64_t>(tokens, 2 * gpu(cuda).multiprocessors);
    const Tensor scratch(cuda.context, Shape{blocks, reals});
    start(cuda, name, kernel, {.blocks = blocks, .threads = Team<true>::kSize}, args...,
          Workspace{reals, scratch.data()});
  }
}

}  // namespace fprnn::cuda
