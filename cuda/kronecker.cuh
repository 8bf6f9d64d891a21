// The product of a Kronecker mixer, p = left^T X right for the rows X (m1, m2) of a vector. A vector is spread
// over a team: each thread holds some of its channels in registers, or in memory where there are
// many. The transposed product is that of the transposed factors.
#pragma once

#include <fprnn/cuda/small_matrix.cuh>

namespace fprnn::cuda {

// The channels of a team's vector: `count` to a thread, a constant for registers, which are 0 beyond D.
// Thread i of n has the channels i, i + n, ...
template <class T, class Count, class Size>
struct Channels {
  const T& team;
  Count count;
  Size D;

  // visit(k, d) for the thread's k-th channel, d.
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    using Index = typename T::Index;
#pragma unroll
    for (Index k = 0; k < count; ++k) {
      const Index d = team.rank + k * T::kSize;
      if (d < D) visit(k, d);
    }
  }
};

// The same where a thread has C neighbouring elements of a column of X (M1, M2).
template <class T, int M1, int M2>
struct ColumnChannels {
  static constexpr int C = M1 * M2 / T::kSize;
  const T& team;
  Constant<M1 * M2> D;

  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    const int first = team.rank / M2 * C * M2 + team.rank % M2;
#pragma unroll
    for (int k = 0; k < C; ++k) visit(k, first + k * M2);
  }
};

// The sum of term(k) over the team's channels.
template <class Channels, class Term>
__device__ __forceinline__ real sum_over(const Channels& c, const Term& term) {
  real total = 0;
  c.each([&](auto k, auto) { total += term(k); });
  return c.team.sum(total);
}

// A thread's part of a vector in memory, indexed as one in registers.
template <class Real, int kStride>
struct Spread {
  Real* first;
  __device__ __forceinline__ Real& operator[](int64_t k) const { return first[k * kStride]; }
};

// For sizes that a team divides into columns: column c of the threads' M2, and group g of C neighbouring
// rows, are one thread's. It needs column c of X, which goes through shared memory by columns, rows
// of left^T, and then its own rows of left^T X, which go through shared memory among the threads of
// the group, neighbours in a warp, to meet column c of right, which stays in registers. So do the
// rows of left^T where they are few. left and right are (M1, M1) and (M2, M2), contiguous, in
// shared memory, and so is work (kSpace); all begin at multiples of 16 bytes.
template <int W, int M1, int M2>
class RegisterProduct {
 public:
  using T = Team<W>;
  static constexpr int C = M1 * M2 / T::kSize, kStride = M1 + Quad::kCount;
  static constexpr int kColumns = M2 * kStride;  // reals of X by columns
  static constexpr int kSpace = 2 * kColumns + M1 * M2;
  static_assert(kWarp % M2 == 0 && C >= 1 && M1 % Quad::kCount == 0 && M2 % Quad::kCount == 0);
  static __device__ __forceinline__ ColumnChannels<T, M1, M2> channels(const T& team) {
    return {team, {}};
  }

  __device__ __forceinline__ RegisterProduct(const T& team, const real* left, const real* right,
                                             real* work)
      : team_(team),
        work_(work),
        column_(team.rank % M2),
        row_(team.rank / M2 * C),
        left_(left + row_) {
#pragma unroll
    for (int j = 0; j < M2; ++j) right_[j] = right[j * M2 + column_];
    if constexpr (kLeftStays)
#pragma unroll
      for (int l = 0; l < M1; ++l) load_left(l, stay_[l]);
    team.sync();  // whoever used work before has done so
  }

  // y <- left^T x right.
  __device__ __forceinline__ void apply(const real (&x)[C], real (&y)[C]) const {
    real* const columns = work_ + turn_ * kColumns;
    real* const rows = work_ + 2 * kColumns + row_ * M2;
    turn_ ^= 1;  // so that one barrier does, as in Team
#pragma unroll
    for (int k = 0; k < C; ++k) columns[column_ * kStride + row_ + k] = x[k];
    team_.sync();
    real total[C]{};
#pragma unroll
    for (int l = 0; l < M1; l += Quad::kCount) {
      const Quad quad = *reinterpret_cast<const Quad*>(columns + column_ * kStride + l);
#pragma unroll
      for (int q = 0; q < Quad::kCount; ++q) {
        real left[C];
        if constexpr (!kLeftStays) load_left(l + q, left);
#pragma unroll
        for (int k = 0; k < C; ++k)
          total[k] += (kLeftStays ? stay_[kLeftStays ? l + q : 0][k] : left[k]) * quad.v[q];
      }
    }
#pragma unroll
    for (int k = 0; k < C; ++k) rows[k * M2 + column_] = total[k];
    __syncwarp();
#pragma unroll
    for (int k = 0; k < C; ++k) {
      real even = 0, odd = 0;
#pragma unroll
      for (int j = 0; j < M2; j += Quad::kCount) {
        const Quad quad = *reinterpret_cast<const Quad*>(rows + k * M2 + j);
#pragma unroll
        for (int q = 0; q < Quad::kCount; q += 2) {
          even += quad.v[q] * right_[j + q];
          odd += quad.v[q + 1] * right_[j + q + 1];
        }
      }
      y[k] = even + odd;
    }
    __syncwarp();
  }

 private:
  static constexpr bool kLeftStays = M1 * C <= 32;

  // The thread's part of row l of left.
  __device__ __forceinline__ void load_left(int l, real (&to)[C]) const {
    if constexpr (C % Quad::kCount == 0) {
#pragma unroll
      for (int k = 0; k < C; k += Quad::kCount) {
        const Quad quad = *reinterpret_cast<const Quad*>(left_ + l * M1 + k);
#pragma unroll
        for (int q = 0; q < Quad::kCount; ++q) to[k + q] = quad.v[q];
      }
    } else {
#pragma unroll
      for (int k = 0; k < C; ++k) to[k] = left_[l * M1 + k];
    }
  }

  const T& team_;
  real* work_;
  int column_, row_;
  const real* left_;
  mutable int turn_ = 0;
  real right_[M2], stay_[kLeftStays ? M1 : 1][C];
};

// The same for sizes that tensor cores divide into tiles, in floats: a warp has 16 rows of 8 S columns, S tiles.
// Each number is the sum of two with 11 bits, of which three products are added up; the error is
// that of floats. A warp takes its tiles of X right from 16 rows of X, then its tiles of left^T (X
// right) from 8 S columns of that. Both go through shared memory, the second among the warps of
// those columns. What a tile needs of the factors stays in registers.
//
// Lane 4 g + t has rows g and g + 8 of columns 2 t and 2 t + 1 of each tile, the order of its channels.
template <class T, int M1, int M2>
struct TileChannels {
  static constexpr int C = M1 * M2 / T::kSize, S = C / 4;
  const T& team;
  Constant<M1 * M2> D;

  static __device__ __forceinline__ int row(const T& team) {
    return team.warp() / (M2 / (8 * S)) * 16 + team.lane() / 4;
  }
  static __device__ __forceinline__ int column(const T& team) {
    return team.warp() % (M2 / (8 * S)) * 8 * S + team.lane() % 4 * 2;
  }
  template <class Visit>
  __device__ __forceinline__ void each(const Visit& visit) const {
    const int first = row(team) * M2 + column(team);
#pragma unroll
    for (int k = 0; k < C; ++k) visit(k, first + k / 4 * 8 + k / 2 % 2 * 8 * M2 + k % 2);
  }
};

template <int M1, int M2>
class TileProduct {
 public:
  // Columns of tiles of a warp: large matrices have two, so that two teams fit a multiprocessor.
  static constexpr int S = M1 * M2 >= 1024 ? 2 : 1;
  static constexpr int W = M1 * M2 / (128 * S);
  using T = Team<W>;
  using Channels = TileChannels<T, M1, M2>;
  static constexpr int C = Channels::C;
  // X by rows, in two places in turns, and X right by columns. Lanes that read eight of them, two numbers
  // each, meet all banks.
  static constexpr int kRow = M2 + 8, kColumn = M1 + 8;
  static constexpr int kRows = M1 * kRow, kSpace = 2 * kRows + M2 * kColumn;
  static_assert(M1 % 16 == 0 && M2 % 16 == 0);
  static __device__ __forceinline__ Channels channels(const T& team) { return {team, {}}; }

  __device__ __forceinline__ TileProduct(const T& team, const real* left, const real* right,
                                         real* work)
      : TileProduct(team, left, right, work, Channels::row(team), Channels::column(team),
                    2 * (team.lane() % 4)) {}

  // y <- left^T x right. The order of what is summed up is free: a lane takes neighbours.
  __device__ __forceinline__ void apply(const real (&x)[C], real (&y)[C]) const {
#pragma unroll
    for (int k = 0; k < C; k += 2)
      write_row_.at<float2>(turn_ + k / 4 * 8 + k / 2 % 2 * 8 * kRow) = {x[k], x[k + 1]};
    team_.sync();
    TileSums product[S];
#pragma unroll
    for (int l = 0; l < M2 / 8; ++l) {
      const float2 upper = read_row_.at<float2>(turn_ + 8 * l),
                   lower = read_row_.at<float2>(turn_ + 8 * l + 8 * kRow);
      const HighLow rows[4]{HighLow(upper.x), HighLow(lower.x), HighLow(upper.y), HighLow(lower.y)};
#pragma unroll
      for (int s = 0; s < S; ++s) product[s].add(rows, right_[s][l]);
    }
    turn_ = kRows - turn_;  // so that one barrier does, as in Team
#pragma unroll
    for (int k = 0; k < C; ++k)
      write_column_.at((k / 4 * 8 + k % 2) * kColumn + k / 2 % 2 * 8) = product[k / 4][k % 4];
    if constexpr (M1 == 16)
      __syncwarp();
    else
      team_.sync();
    TileSums sums[S];
#pragma unroll
    for (int l = 0; l < M1 / 8; ++l) {
#pragma unroll
      for (int s = 0; s < S; ++s) {
        const float2 both = read_column_.at<float2>(s * 8 * kColumn + 8 * l);
        const HighLow columns[2]{HighLow(both.x), HighLow(both.y)};
        sums[s].add(left_[l], columns);
      }
    }
#pragma unroll
    for (int k = 0; k < C; ++k) y[k] = sums[k / 4][k % 4];
  }

 private:
  // row, column: the lane's first channel; pair: the first of its columns in a tile.
  __device__ __forceinline__ TileProduct(const T& team, const real* left, const real* right,
                                         real* work, int row, int column, int pair)
      : team_(team),
        write_row_(work + row * kRow + column),
        read_row_(work + row * kRow + pair),
        write_column_(work + 2 * kRows + column * kColumn + row),
        read_column_(work + 2 * kRows + (column - pair + team.lane() / 4) * kColumn + pair) {
    const int lane_column = column - pair + team.lane() / 4;
#pragma unroll
    for (int s = 0; s < S; ++s)
#pragma unroll
      for (int l = 0; l < M2 / 8; ++l)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          right_[s][l][i] = HighLow(right[(8 * l + pair + i) * M2 + s * 8 + lane_column]);
#pragma unroll
    for (int l = 0; l < M1 / 8; ++l)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        left_[l][i] = HighLow(left[(8 * l + pair + i / 2) * M1 + row + i % 2 * 8]);
    team.sync();  // whoever used work before has done so
  }

  const T& team_;
  SharedPlace write_row_, read_row_, write_column_, read_column_;
  mutable int turn_ = 0;
  HighLow right_[S][M2 / 8][2], left_[M1 / 8][4];
};

// The product of these sizes and the warps of its team.
template <int M1, int M2>
inline constexpr bool kInTiles = !kDouble && M1 % 16 == 0 && M2 % 16 == 0;
template <int M1, int M2>
using ProductOf =
    std::conditional_t<kInTiles<M1, M2>,
                       TileProduct<kInTiles<M1, M2> ? M1 : 16, kInTiles<M1, M2> ? M2 : 16>,
                       RegisterProduct<(M1 * M2 > 128 ? M1 * M2 / 128 : 1), M1, M2>>;
template <int M1, int M2>
inline constexpr int kTeamOf = ProductOf<M1, M2>::T::kWarps;

// visit(m1, m2) with the sizes that ProductOf is for as constants; false for others.
template <class Visit>
bool with_constants(int64_t m1, int64_t m2, const Visit& visit) {
  const auto is = [&](auto first, auto second) {
    if (m1 != first || m2 != second) return false;
    visit(first, second);
    return true;
  };
  return is(Constant<4>(), Constant<8>()) || is(Constant<8>(), Constant<8>()) ||
         is(Constant<8>(), Constant<16>()) || is(Constant<16>(), Constant<16>()) ||
         is(Constant<16>(), Constant<32>()) || is(Constant<32>(), Constant<32>());
}

// For any sizes: left and right in any memory, contiguous; work (2 m1 m2) too.
template <class T, class Channels>
struct AnyProduct {
  using Index = typename T::Index;
  const Channels& c;
  const real *left, *right;
  real* work;
  Index m1, m2;

  template <class X, class Y>
  __device__ __forceinline__ void apply(const X& x, Y& y) const {
    real* const rows = work + m1 * m2;
    c.each([&](auto k, auto d) { work[d] = x[k]; });
    c.team.sync();
    small_product(
        c.team, m1, m1, m2, [&](Index i, Index l) { return left[l * m1 + i]; },
        [&](Index l, Index j) { return work[l * m2 + j]; },
        [&](Index i, Index j, real total) { rows[i * m2 + j] = total; });
    c.team.sync();
    small_product(
        c.team, m1, m2, m2, [&](Index i, Index l) { return rows[i * m2 + l]; },
        [&](Index l, Index j) { return right[l * m2 + j]; },
        [&](Index i, Index j, real total) { work[i * m2 + j] = total; });
    c.team.sync();
    c.each([&](auto k, auto d) { y[k] = work[d]; });
  }
};

}  // namespace fprnn::cuda
