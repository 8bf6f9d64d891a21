// The Hessenberg matrix H of a token's equation (with the names of ops/kronecker_solve.md), and
// what a warp does with it: plain steps, with one coordinate a lane, and the search for sigma,
// where every lane solves for a sigma of its own
//   (sigma I - H) c = |b| e_1
#pragma once

#include <fprnn/cuda/small_matrix.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::cuda {

// c for one sigma, divided by t: the solution is |b| c.
struct Section {
  real sigma;
  bool negative;  // t, whose sign is that of det(sigma I - H)
  real squares;   // |c|^2
  real last;      // |c_m|
};

// Where plain steps have come: sigma, and |c_m| in units of |b|.
struct PlainSteps {
  real sigma, last;
};

// H's tiles of B by B, those above and on the diagonal, a column of tiles after the other.
template <int Most>
class Hessenberg {
 public:
  static constexpr int B = 8;
  static constexpr int kBlocks = (Most + B - 1) / B, kTiles = kBlocks * (kBlocks + 1) / 2;
  static constexpr int kSize = kTiles * B * B, kVector = kBlocks * B;  // reals

  // H, the inverse of its subdiagonal, c, and plain steps' b + M n in units of |b|.
  real *h, *inverse, *c, *plain;
  real D, eps;                        // |c|^2 = |n|^2 = D (1 - eps / sigma^2)
  real squares = 0;                   // |H|^2
  real start = 0, inverse_start = 0;  // |b|

  static __device__ __forceinline__ int tile(int i, int j) { return (j * (j + 1) / 2 + i) * B * B; }
  __device__ __forceinline__ real& at(int i, int j) const {
    return h[tile(i / B, j / B) + i % B * B + j % B];
  }

  // n <- (b + M n) / sigma(n) in the space's m coordinates, `count` times: what plain steps are, as
  // far as the space holds them.
  __device__ __forceinline__ PlainSteps go_on(int m, int count) const {
    PlainSteps at{};
    if (m <= 2 * B)
      at.sigma = steps<2>(m, count);
    else if (Most >= 3 * B && m <= 3 * B)
      at.sigma = steps<3>(m, count);
    else if (Most >= 4 * B && m <= 4 * B)
      at.sigma = steps<4>(m, count);
    else
      at.sigma = steps(m, count);
    at.last = magnitude(plain[m - 1]);
    return at;
  }

  // The solution for sigma = 1 if the equation is linear; else the one with |c| = |n| whose sigma is next to this
  // one, to which plain steps have come, or the largest of all if none is near, |c| being |n| to a
  // relative `match`. c is the solution's where the warp keeps it.
  __device__ __forceinline__ Section root(int m, bool linear, real sigma, real match,
                                          bool keeps) const {
    static_assert(kKrylovSections == kWarp);
    constexpr int kMiddle = kWarp / 2;
    const int lane = lane_of();
    const real step = static_cast<real>(lane + 1) / kWarp, least = ::sqrt(eps);
    // Sections on both sides of sigma, each twice as far as the one before, else from the smallest to where there
    // is no root any more, by factors; then between two sections, and where the line between their
    // values meets 0, which is the solution when it is near enough.
    bool around = true, between = false, negative = false;
    real low = least, low_value = -1, high = 0, high_value = 0;
    int round = 0;
#pragma unroll 1
    for (;;) {
      real at_sigma = 1;
      if (between) {
        real part = low_value / (low_value - high_value);
        if (!(part > 0 && part < 1)) part = static_cast<real>(0.5);
        at_sigma = low + (high - low) * (lane < kKept ? step : part);
      } else if (!linear) {
        const real most = ::sqrt(squares) + static_cast<real>(1.5) * start / ::sqrt(D) + 2 * least;
        const int away = lane < kMiddle ? kMiddle - 1 - lane : lane - kMiddle;
        const real distance = kKrylovNearest * static_cast<real>(1 << away);
        at_sigma = around ? sigma * (lane < kMiddle ? 1 - distance : 1 + distance)
                          : least * ::exp2(step * ::log2(most / least));
      }
      const Section at = solve(m, at_sigma, (between || linear) && keeps && lane == kKept);
      int k = 0;
      if (between || linear) {
        const real own = value(at, negative);
        const bool found = magnitude(own) <= match || round == kKrylovRounds;
        if (linear || __shfl_sync(kAllLanes, static_cast<int>(found), kKept) != 0) {
          return {__shfl_sync(kAllLanes, at.sigma, kKept), at.negative,
                  __shfl_sync(kAllLanes, at.squares, kKept),
                  __shfl_sync(kAllLanes, at.last, kKept)};
        }
        ++round;
        k = kWarp - __clz(static_cast<int>(__ballot_sync(kAllLanes, lane < kKept && !(own > 0))));
      } else {
        const unsigned roots = crossings(at);
        if (roots == 0 && around) {
          around = false;
          continue;
        }
        k = around ? nearest(roots) : roots == 0 ? 0 : 31 - __clz(static_cast<int>(roots));
        negative = __shfl_sync(kAllLanes, static_cast<int>(at.negative), k) != 0;
      }
      const real own = value(at, negative);
      if (!between || k < kKept) {
        high = __shfl_sync(kAllLanes, at.sigma, k);
        high_value = __shfl_sync(kAllLanes, own, k);
      }
      if (k > 0) {
        low = __shfl_sync(kAllLanes, at.sigma, k - 1);
        low_value = __shfl_sync(kAllLanes, own, k - 1);
      }
      between = true;
    }
  }

 private:
  // (sigma I - H) c = t e_1 from c_m = 1 upwards (Hyman). What becomes large makes all before it
  // smaller. keep: c becomes what it is for this thread. There are no branches on a row, so that
  // what is read of H does not wait for the rows before.
  __device__ __forceinline__ Section solve(int m, real sigma, bool keep) const {
    if constexpr (kBlocks >= 2)
      if (m >= B && m <= 2 * B) return solve_near<2>(m, sigma, keep);
    if constexpr (kBlocks >= 3)
      if (m > 2 * B && m <= 3 * B) return solve_near<3>(m, sigma, keep);
    Section at{sigma, false, 0, 1};
    real t = 1;
    alignas(16) real x[kBlocks * B];
    const int blocks = (m + B - 1) / B;
#pragma unroll 1
    for (int row = blocks - 1; row >= 0; --row) {
      real z[B], total[B]{};
#pragma unroll 1
      for (int column = row + 1; column < blocks; ++column) {
        real of_x[B];
        load(x + column * B, of_x);
        add_product(row, column, of_x, total);
      }
      solve_rows(std::false_type(), m, row, total, t, at, z, [&](real part) {
#pragma unroll 1
        for (int j = (row + 1) * B; j < blocks * B; ++j) x[j] *= part;
      });
#pragma unroll
      for (int r = 0; r < B; ++r) x[row * B + r] = z[r];
    }
    const real part = finish(at, t);
    if (keep)
      for (int i = 0; i < blocks * B; ++i) c[i] = x[i] * part;
    return at;
  }

  // The same in registers, for m > (Blocks - 1) B rows, or as many.
  template <int Blocks>
  __device__ __forceinline__ Section solve_near(int m, real sigma, bool keep) const {
    Section at{sigma, false, 0, 1};
    real t = 1, x[Blocks][B];
    each_constant<Blocks>([&](auto i) {
      constexpr int row = Blocks - 1 - i;
      real total[B]{};
      each_constant<i>([&](auto j) { add_product(row, row + 1 + j, x[row + 1 + j], total); });
      solve_rows(std::bool_constant<(i > 0)>(), m, row, total, t, at, x[row], [&](real part) {
        each_constant<i>([&](auto j) {
#pragma unroll
          for (int r = 0; r < B; ++r) x[row + 1 + j][r] *= part;
        });
      });
    });
    const real part = finish(at, t);
    if (keep)
#pragma unroll
      for (int i = 0; i < Blocks * B; ++i) c[i] = x[i / B][i % B] * part;
    return at;
  }

  // A lane has a row of H in registers.
  template <int Blocks>
  __device__ __forceinline__ real steps(int m, int count) const {
    const int row = lane_of();
    const bool first = row == 0, inside = row < m;
    real of_h[Blocks][B];
#pragma unroll
    for (int column = 0; column < Blocks; ++column) {
#pragma unroll
      for (int j = 0; j < B; ++j) of_h[column][j] = 0;
      if (column < kBlocks && inside && row / B <= column)
        load(h + tile(row / B, column) + row % B * B, of_h[column]);
      // Left of the diagonal, no tile has it.
      if (row == (column + 1) * B && inside) of_h[column][B - 1] = 1 / inverse[row];
    }
    const real part = start * start / D;
#pragma unroll 1
    for (;; --count) {
      real of_plain[Blocks][B];
#pragma unroll
      for (int column = 0; column < Blocks; ++column) load(plain + column * B, of_plain[column]);
      real total[4]{}, length[4]{};  // chains of their own
#pragma unroll
      for (int column = 0; column < Blocks; ++column)
#pragma unroll
        for (int j = 0; j < B; ++j) {
          total[j % 4] += of_h[column][j] * of_plain[column][j];
          length[j % 4] += of_plain[column][j] * of_plain[column][j];
        }
      const real squares = (length[0] + length[1]) + (length[2] + length[3]);
      const real inverse_sigma = inverse_root(part * squares + eps);
      if (count == 0) {
        __syncwarp();  // H may be written again
        return 1 / inverse_sigma;
      }
      const real along = (total[0] + total[1]) + (total[2] + total[3]);
      __syncwarp();
      if (inside) plain[row] = (first ? real(1) : real(0)) + inverse_sigma * along;
      __syncwarp();
    }
  }
  // The same for any m.
  __device__ __forceinline__ real steps(int m, int count) const {
    constexpr int kRows = (kBlocks * B + kWarp - 1) / kWarp;  // of a lane
    const int blocks = (m + B - 1) / B;
    const real part = start * start / D;
#pragma unroll 1
    for (;; --count) {
      real total[kRows]{}, length = 0;
#pragma unroll 1
      for (int column = 0; column < blocks; ++column) {
        real of_plain[B];
        load(plain + column * B, of_plain);
#pragma unroll
        for (int j = 0; j < B; ++j) length += of_plain[j] * of_plain[j];
#pragma unroll
        for (int k = 0; k < kRows; ++k) {
          const int row = k * kWarp + lane_of();
          if (row / B > column) continue;
          real of_h[B];
          load(h + tile(row / B, column) + row % B * B, of_h);
#pragma unroll
          for (int j = 0; j < B; ++j) total[k] += of_h[j] * of_plain[j];
        }
      }
      const real inverse_sigma = inverse_root(part * length + eps);
      if (count == 0) {
        __syncwarp();  // H may be written again
        return 1 / inverse_sigma;
      }
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const int row = k * kWarp + lane_of();
        if (row % B == 0 && row > 0 && row < m) total[k] += plain[row - 1] / inverse[row];
      }
      __syncwarp();
#pragma unroll
      for (int k = 0; k < kRows; ++k) {
        const int row = k * kWarp + lane_of();
        if (row < m) plain[row] = (row == 0 ? real(1) : real(0)) + inverse_sigma * total[k];
      }
      __syncwarp();
    }
  }

  static constexpr int kKept = kWarp - 1;  // the section that becomes the solution

  // |n| / |c|, to a few units in the last place.
  __device__ __forceinline__ real ratio(const Section& at) const {
    const real of_sigma = inverse_root(at.sigma * at.sigma);
    const real squares_of_n = D * (1 - eps * of_sigma * of_sigma);
    if (!(squares_of_n > 0)) return 0;
    return squares_of_n * inverse_root(squares_of_n) * inverse_root(at.squares) * inverse_start;
  }
  // |n| / |c| - 1, whose root is wanted: where c has been infinite since a sigma with that sign it is below -1, and
  // goes through -1 where c is infinite.
  __device__ __forceinline__ real value(const Section& at, bool negative) const {
    return (at.negative == negative ? ratio(at) : -ratio(at)) - 1;
  }
  // Lanes that have a root between their section and the one before: |c| becomes smaller than |n|.
  __device__ __forceinline__ unsigned crossings(const Section& at) const {
    const unsigned shorter = __ballot_sync(kAllLanes, ratio(at) > 1);
    const unsigned negative = __ballot_sync(kAllLanes, at.negative);
    return shorter & ~(shorter << 1 & ~(negative ^ negative << 1)) & ~1u;
  }
  // The one of these lanes, some, that is nearest to the middle, the upper of two.
  static __device__ __forceinline__ int nearest(unsigned lanes) {
    constexpr int kMiddle = kWarp / 2;
    const unsigned lower = lanes & ((1u << kMiddle) - 1), upper = lanes >> kMiddle;
    const int up = upper == 0 ? kWarp : __ffs(static_cast<int>(upper)) - 1;
    const int down = lower == 0 ? kWarp : kMiddle - 32 + __clz(static_cast<int>(lower));
    return up <= down ? kMiddle + up : kMiddle - 1 - down;
  }

  // total <- total + tile (row, column) of H times x.
  __device__ __forceinline__ void add_product(int row, int column, const real (&x)[B],
                                              real (&total)[B]) const {
    real of_h[B][B];
    load(h + tile(row, column), of_h);
#pragma unroll
    for (int s = 0; s < B; ++s)
#pragma unroll
      for (int r = 0; r < B; ++r) total[r] += of_h[r][s] * x[s];
  }
  // B rows, `whole` if all of them are among m: z, from the product of H right of their diagonal tile
  // with c. t is c of the row above; `at` has c's squares and c_m. shrink makes all rows below
  // smaller.
  template <class Whole, class Shrink>
  __device__ __forceinline__ void solve_rows(Whole whole, int m, int row, real (&total)[B], real& t,
                                             Section& at, real (&z)[B],
                                             const Shrink& shrink) const {
    constexpr real kLarge = static_cast<real>(1e6);
    real d[B][B], subdiagonal[B];
    load(h + tile(row, row), d);
    load(inverse + row * B, subdiagonal);
#pragma unroll
    for (int r = 0; r < B; ++r) z[r] = 0;
    const auto keep_small = [&](real newest) {
      const real large = Larger()(magnitude(t), magnitude(newest));
      if (__ballot_sync(kAllLanes, large > kLarge) == 0) return;
      const real part = large > kLarge ? 1 / large : real(1);
      t *= part;
      at.squares = at.squares * part * part;
      at.last *= part;
#pragma unroll
      for (int r = 0; r < B; ++r) {
        z[r] *= part;
        total[r] *= part;
      }
      shrink(part);
    };
#pragma unroll
    for (int r = B - 1; r >= 0; --r) {
      const int i = row * B + r;
      z[r] = whole || i < m ? t : real(0);
      real sum = total[r];
#pragma unroll
      for (int s = B - 1; s > r; --s) sum += d[r][s] * z[s];
      sum = (at.sigma - d[r][r]) * z[r] - sum;
      const real next = r > 0 || row > 0 ? sum * subdiagonal[r] : sum;
      t = whole || i < m ? next : t;
      if (r == B / 2) keep_small(z[r]);
    }
    keep_small(z[0]);
#pragma unroll
    for (int r = 0; r < B; ++r) at.squares += z[r] * z[r];
  }
  // c is what has been solved times what this returns: 1 / t. At a real eigenvalue of H t may be 0;
  // c is its vector then, as long as that allows.
  static __device__ __forceinline__ real finish(Section& at, real t) {
    constexpr real kTiny = static_cast<real>(1e-9);
    if (!(magnitude(t) > kTiny)) t = t < 0 ? -kTiny : kTiny;
    const real part = 1 / t;
    at.negative = t < 0;
    at.squares *= part * part;
    at.last = magnitude(at.last * part);
    return part;
  }

  static __device__ __forceinline__ void load(const real* from, real (&to)[B]) {
#pragma unroll
    for (int q = 0; q < B; q += Quad::kCount) {
      const Quad quad = *reinterpret_cast<const Quad*>(from + q);
#pragma unroll
      for (int j = 0; j < Quad::kCount; ++j) to[q + j] = quad.v[j];
    }
  }
  static __device__ __forceinline__ void load(const real* from, real (&to)[B][B]) {
#pragma unroll
    for (int r = 0; r < B; ++r) load(from + r * B, to[r]);
  }
};

}  // namespace fprnn::cuda
