// Products of matrices of a few rows by the threads that share a token: a warp with its matrices in
// shared memory, or a block where they are large. Sizes are numbers, or constants
// (std::integral_constant) for which loops are unrolled. A matrix is any function of row and
// column. In shared memory rows are an odd number of reals apart, so that neighbouring lanes use
// different banks along rows and columns.
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/launch.cuh>
#include <fprnn/cuda/math.cuh>
#include <fprnn/cuda/team.cuh>
#include <fprnn/cuda/tile.cuh>
#include <fprnn/cuda/unroll.cuh>

namespace fprnn::cuda {

// The distance of rows in shared memory.
FPRNN_HOST_DEVICE constexpr int64_t odd_stride(int64_t m) { return m | 1; }

// What is contiguous, to a matrix (m, n) in shared memory.
template <class T, class M, class N>
__device__ __forceinline__ void copy_rows(const T& team, M m, N n, const real* from, real* to) {
  using Index = typename T::Index;
  team.each_element(m, n, [&](Index i, Index j) {
    to[i * static_cast<Index>(odd_stride(n)) + j] = from[i * n + j];
  });
}

// How many rows and columns of a product a thread takes at once, and whether the product is made of whole
// tiles.
template <class T, class M, class N>
struct Tile {
  static constexpr int kRows = 2, kColumns = 2;
  static constexpr bool kWhole = false;
};
template <class T, int M, int N>
struct Tile<T, Constant<M>, Constant<N>> {
  static constexpr int kElements = M * N / T::kSize;  // of each thread
  static constexpr int kRows = kElements >= 32 ? 8 : kElements >= 8 ? 4 : kElements >= 2 ? 2 : 1;
  static constexpr int kColumns = kElements >= 16 ? 4 : kElements >= 4 ? 2 : 1;
  static constexpr bool kWhole = M % kRows == 0 && N % kColumns == 0;
};

// Whether tensor cores make a product of these sizes.
template <class M, class K, class N>
inline constexpr bool kByTiles = false;
template <int M, int K, int N>
inline constexpr bool kByTiles<Constant<M>, Constant<K>, Constant<N>> =
    !kDouble && M % 16 == 0 && K % 8 == 0 && N % 8 == 0;

// A warp takes rows of tiles, or where warps are more, a part of a row. Lane 4 g + t has rows g and g + 8 of a,
// column g of b, K / 4 neighbours of what is summed over, which lie a bank or more from those of
// other lanes.
template <class T, int M, int K, int N, class A, class B, class Give>
__device__ __forceinline__ void tile_product(const T& team, const A& a, const B& b,
                                             const Give& give) {
  constexpr int kRows = M / 16, kColumns = N / 8;  // of tiles
  constexpr int kSharers = T::kWarps > kRows ? T::kWarps / kRows : 1;
  const int warp = team.warp(), g = team.lane() / 4, t = team.lane() % 4;
  for (int row = warp / kSharers; row < kRows; row += T::kWarps / kSharers) {
    HighLow rows[K / 8][4];
#pragma unroll
    for (int l = 0; l < K / 8; ++l)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        rows[l][i] = HighLow(a(row * 16 + g + i % 2 * 8, K / 4 * t + 2 * l + i / 2));
#pragma unroll
    for (int first = 0; first < kColumns; first += kSharers) {
      const int column = first + warp % kSharers;
      if (kColumns % kSharers != 0 && column >= kColumns) break;
      TileSums sums;
#pragma unroll
      for (int l = 0; l < K / 8; ++l)
        sums.add(rows[l], {HighLow(b(K / 4 * t + 2 * l, column * 8 + g)),
                           HighLow(b(K / 4 * t + 2 * l + 1, column * 8 + g))});
#pragma unroll
      for (int i = 0; i < 4; ++i)
        give(row * 16 + g + i / 2 * 8, column * 8 + 2 * t + i % 2, sums[i]);
    }
  }
}

// give(i, j, the sum of a(i, l) b(l, j) over l < k) for all i < m, j < n. Without tensor cores a
// thread has a tile, whose rows and columns lie as far apart as there are tiles, so that
// neighbouring threads have neighbouring ones.
template <class T, class M, class K, class N, class A, class B, class Give>
__device__ __forceinline__ void small_product(const T& team, M m, K k, N n, const A& a, const B& b,
                                              const Give& give) {
  using Index = typename T::Index;
  if constexpr (kByTiles<M, K, N>) {
    tile_product<T, M::value, K::value, N::value>(
        team, [&](int i, int l) { return a(Index{i}, Index{l}); },
        [&](int l, int j) { return b(Index{l}, Index{j}); },
        [&](int i, int j, real total) { give(Index{i}, Index{j}, total); });
    return;
  }
  constexpr int kRows = Tile<T, M, N>::kRows, kColumns = Tile<T, M, N>::kColumns;
  constexpr bool kWhole = Tile<T, M, N>::kWhole;
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

// Working space of a kernel whose teams take tokens in turns: `reals` for each team in shared memory, which the
// compiler has to know to be that, or
struct SharedSpace {
  int64_t reals;
};
// where that does not do, in `scratch`.
struct Workspace {
  int64_t reals;
  real* scratch = nullptr;
};

// visit(team, token, space) for all tokens. Space begins at a multiple of 16 bytes.
template <int W, class Space, class Visit>
__device__ __forceinline__ void for_tokens(int64_t tokens, const Space& workspace,
                                           const Visit& visit) {
  extern __shared__ __align__(16) unsigned char bytes[];
  const int64_t number = threadIdx.x / Team<W>::kSize, teams = blockDim.x / Team<W>::kSize;
  bool shared = true;
  if constexpr (std::is_same_v<Space, Workspace>) shared = workspace.scratch == nullptr;
  real* const own =
      reinterpret_cast<real*>(bytes) + number * (Team<W>::kSpace + (shared ? workspace.reals : 0));
  const Team<W> team(own);
  real* space = own + Team<W>::kSpace;
  if constexpr (std::is_same_v<Space, Workspace>)
    if (!shared) space = workspace.scratch + (blockIdx.x * teams + number) * workspace.reals;
  for (int64_t token = blockIdx.x * teams + number; token < tokens; token += gridDim.x * teams) {
    visit(team, token, space);
    team.sync();
  }
}

inline constexpr int64_t kMostShared = 96 << 10;  // bytes of a block's working space

// Starts kernel(args..., Workspace) over tokens with `reals` of working space for each, that many teams of W
// warps to a block, or, if Space says so, kernel(args..., SharedSpace): `reals` fit then.
template <int W, class Space = Workspace, class Kernel, class... Args>
void start_teams(Cuda cuda, std::string_view name, Kernel kernel, int64_t tokens, int64_t reals,
                 int teams, const Args&... args) {
  reals = ceil_div(reals, Quad::kCount) * Quad::kCount;
  const int64_t exchange = teams * Team<W>::kSpace * sizeof(real),
                bytes = teams * reals * sizeof(real);
  Grid grid{.blocks = std::min<int64_t>(ceil_div(tokens, teams), INT32_MAX),
            .threads = teams * Team<W>::kSize,
            .shared_bytes = static_cast<size_t>(exchange)};
  if (std::is_same_v<Space, SharedSpace> ||
      (bytes <= kMostShared && gpu(cuda).forms.fit(exchange + bytes))) {
    grid.shared_bytes += bytes;
    return start(cuda, name, kernel, grid, args..., Space{reals});
  }
  if constexpr (std::is_same_v<Space, Workspace>) {
    grid.blocks = std::min<int64_t>(grid.blocks, 2 * gpu(cuda).multiprocessors);
    const Tensor scratch(cuda.context, Shape{grid.blocks * teams, reals});
    start(cuda, name, kernel, grid, args..., Workspace{reals, scratch.data()});
  }
}

}  // namespace fprnn::cuda
