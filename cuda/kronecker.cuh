// The product of a Kronecker mixer, for a vector as rows X (m1, m2):
//   p = left^T X right
// A vector is spread over a team: each thread holds some of its channels in registers, or in memory
// where there are many. The transposed product is that of the transposed factors.
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

// What a product that has all numbers need know of a vector, whose product is multiplied by factor.
struct AnyRange {
  real factor;
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
  using Range = AnyRange;
  __device__ __forceinline__ Range range(real, real factor) const { return {factor}; }

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

  // y <- factor left^T x right.
  __device__ __forceinline__ void apply(const real (&x)[C], real (&y)[C], Range range = {1}) const {
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
      y[k] = range.factor * (even + odd);
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

// The same for sizes that tensor cores divide into tiles, in floats, each the sum of two halves
// (cuda/tile.cuh): a warp has 16 rows of 8 S columns, S tiles. It takes its tiles of X right from
// 16 rows of X, then its tiles of left^T (X right) from 8 S columns of that. Both go through shared
// memory as halves, made by whoever has the number, the second among the warps of those columns.
// What a tile needs of the factors stays in registers.
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
  // Reals of a row of halves, of what they leave, and of a gap by which eight rows meet all banks. X is
  // in two places in turns.
  static constexpr int kLow = M2 / 2, kRow = M2 + 4;
  static constexpr int kRows = M1 * kRow, kSpace = 3 * kRows;
  static_assert(M1 % 16 == 0 && M2 % 16 == 0 && kRow / 4 % 2 == 1);
  static __device__ __forceinline__ Channels channels(const T& team) { return {team, {}}; }
  // Powers of two: X times `to` are halves, and what is made of them times `back` is the product.
  struct Range {
    float to, back;
  };

  __device__ __forceinline__ TileProduct(const T& team, const real* left, const real* right,
                                         real* work)
      : TileProduct(team, left, right, work, Channels::row(team), Channels::column(team),
                    2 * (team.lane() % 4)) {}

  // Of vectors whose elements are at most `largest`, or 60 times as large: what is between the two products are
  // halves too, of up to 64 times that.
  __device__ __forceinline__ Range range(real largest, real factor) const {
    const float to = 8 * scale_to_one(largest);
    return {to, factor * (back_ * inverse_of_power(to))};
  }

  // y <- factor left^T x right.
  __device__ __forceinline__ void apply(const real (&x)[C], real (&y)[C], Range range) const {
#pragma unroll
    for (int k = 0; k < C; k += 2) write(turn_, k, HalfPair(range.to * x[k], range.to * x[k + 1]));
    team_.sync();
    HalfTileSums product[S];
#pragma unroll
    for (int l = 0; l < M2 / 16; ++l) {
      uint32_t high[4], low[4];
      load_tiles(read_rows_.address(turn_ + 8 * l), high);
      load_tiles(read_rows_.address(turn_ + 8 * l + kLow), low);
#pragma unroll
      for (int s = 0; s < S; ++s)
        product[s].add(high, low, right_[s][l][0].high, right_[s][l][1].high, right_[s][l][0].low,
                       right_[s][l][1].low);
    }
    turn_ = kRows - turn_;  // so that one barrier does, as in Team
#pragma unroll
    for (int k = 0; k < C; k += 2)
      write(2 * kRows, k, HalfPair(product[k / 4][k % 4], product[k / 4][k % 4 + 1]));
    if constexpr (M1 == 16)
      __syncwarp();
    else
      team_.sync();
    HalfTileSums sums[S];
#pragma unroll
    for (int l = 0; l < M1 / 16; ++l)
#pragma unroll
      for (int s = 0; s < S; ++s) {
        uint32_t columns[4];
        load_turned_tiles(read_columns_.address(16 * l * kRow + 4 * s), columns);
        sums[s].add(left_high_[l], left_low_[l], columns[0], columns[1], columns[2], columns[3]);
      }
#pragma unroll
    for (int k = 0; k < C; ++k) y[k] = range.back * sums[k / 4][k % 4];
  }
  // y <- left^T x right for any numbers.
  __device__ __forceinline__ void apply(const real (&x)[C], real (&y)[C]) const {
    real largest = 0;
#pragma unroll
    for (int k = 0; k < C; ++k) largest = LargerSize()(magnitude(x[k]), largest);
    apply(x, y, range(team_.largest(largest), 1));
  }

 private:
  // row, column: the lane's first channel; pair: the first of its columns in a tile.
  __device__ __forceinline__ TileProduct(const T& team, const real* left, const real* right,
                                         real* work, int row, int column, int pair)
      : team_(team),
        write_(work + row * kRow + column / 2),
        read_rows_(work + (row - team.lane() / 4 + team.lane() % 16) * kRow + team.lane() / 16 * 4),
        read_columns_(work + 2 * kRows + team.lane() % 16 * kRow + (column - pair) / 2 +
                      team.lane() / 16 * kLow) {
    const int lane_column = column - pair + team.lane() / 4;
    real of_right[S][M2 / 8][2], of_left[M1 / 16][4][2], largest[2]{};
#pragma unroll
    for (int s = 0; s < S; ++s)
#pragma unroll
      for (int l = 0; l < M2 / 8; ++l)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          of_right[s][l][i] = right[(8 * l + pair + i) * M2 + s * 8 + lane_column];
          largest[0] = LargerSize()(magnitude(of_right[s][l][i]), largest[0]);
        }
#pragma unroll
    for (int l = 0; l < M1 / 16; ++l)
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          of_left[l][j][i] = left[(16 * l + j / 2 * 8 + pair + i) * M1 + row + j % 2 * 8];
          largest[1] = LargerSize()(magnitude(of_left[l][j][i]), largest[1]);
        }
    const float to_right = scale_to_one(warp_largest(largest[0])),
                to_left = scale_to_one(warp_largest(largest[1]));
    back_ = inverse_of_power(to_right) * inverse_of_power(to_left);
#pragma unroll
    for (int s = 0; s < S; ++s)
#pragma unroll
      for (int l = 0; l < M2 / 8; ++l)
        right_[s][l / 2][l % 2] =
            HalfPair(to_right * of_right[s][l][0], to_right * of_right[s][l][1]);
#pragma unroll
    for (int l = 0; l < M1 / 16; ++l)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const HalfPair both(to_left * of_left[l][j][0], to_left * of_left[l][j][1]);
        left_high_[l][j] = both.high;
        left_low_[l][j] = both.low;
      }
    team.sync();  // whoever used work before has done so
  }

  // The lane's neighbours k and k + 1.
  __device__ __forceinline__ void write(int place, int k, const HalfPair& both) const {
    const int at = place + k / 4 * 4 + k / 2 % 2 * 8 * kRow;
    write_.at<uint32_t>(at) = both.high;
    write_.at<uint32_t>(at + kLow) = both.low;
  }

  const T& team_;
  SharedPlace write_, read_rows_, read_columns_;
  mutable int turn_ = 0;
  float back_;
  HalfPair right_[S][M2 / 16][2];
  uint32_t left_high_[M1 / 16][4], left_low_[M1 / 16][4];
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
  using Range = AnyRange;

  __device__ __forceinline__ Range range(real, real factor) const { return {factor}; }
  template <class X, class Y>
  __device__ __forceinline__ void apply(const X& x, Y& y, Range range = {1}) const {
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
    c.each([&](auto k, auto d) { y[k] = range.factor * work[d]; });
  }
};

}  // namespace fprnn::cuda
