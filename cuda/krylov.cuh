// The Krylov space of a token's equation (ops/kronecker_solve.md, whose names these are): an orthonormal basis,
// whose vectors are spread over the team as all are, and the Hessenberg matrix H that the operator
// is in it, in memory of the team. Every lane of a warp solves (sigma I - H) c = |b| e_1 for a
// sigma of its own; all warps do the same.
#pragma once

#include <fprnn/cuda/kronecker.cuh>
#include <fprnn/ops/kronecker_solve.h>

namespace fprnn::cuda {

// Vectors of Krylov's space for up to D channels.
constexpr int krylov_most(int D) {
  return D > kKrylovLong ? kKrylovMostLong : D < kKrylovMost ? D : kKrylovMost;
}

// What goes through one exchange of a team: so many vectors' products with another, and a sum.
inline constexpr int kVectorsTogether = 15;
using Parts = real[kVectorsTogether + 1];

// The thread's part of the basis: the first vectors in registers, the others in memory of its own, which is not
// a member, since what lies beside something that is counted through lies in memory too.
template <int Most, int C>
struct NearBasis {
  static constexpr int kMost = Most;
  static constexpr int kChunks = (Most + kVectorsTogether - 1) / kVectorsTogether;
  using Far = real[kChunks > 1 ? (kChunks - 1) * kVectorsTogether : 1][C];

  Far& far;
  real near[kVectorsTogether][C];

  // What is not a vector yet is 0, so that it has no part in sums.
  __device__ __forceinline__ void clear() {
    each_constant<kVectorsTogether>(
        [&](auto j) { each_constant<C>([&](auto k) { near[j][k] = 0; }); });
  }
  // Each of the first vectors becomes v or stays: registers cannot be counted through.
  template <class Channels>
  __device__ __forceinline__ void put(const Channels&, int i, const real (&v)[C]) {
    if (i < kVectorsTogether) {
      each_constant<kVectorsTogether>([&](auto j) {
        each_constant<C>([&](auto k) { near[j][k] = i == j ? v[k] : near[j][k]; });
      });
      return;
    }
    real(*const chunk)[C] = far + (i - kVectorsTogether) / kVectorsTogether * kVectorsTogether;
    if (i % kVectorsTogether == 0)
      each_constant<kVectorsTogether>(
          [&](auto j) { each_constant<C>([&](auto k) { chunk[j][k] = 0; }); });
    each_constant<C>([&](auto k) { chunk[i % kVectorsTogether][k] = v[k]; });
  }
  // parts[i]: the thread's part of v times vector first + i.
  template <class Channels>
  __device__ __forceinline__ void dots(const Channels&, int first, int, const real (&v)[C],
                                       Parts& parts) const {
    with_chunk(first, [&](const auto& vectors) {
      each_constant<kVectorsTogether>([&](auto i) {
        parts[i] = 0;
        each_constant<C>([&](auto k) { parts[i] += v[k] * vectors[i][k]; });
      });
    });
  }
  // v <- v + the sum of part(i) vector first + i.
  template <class Channels, class Part>
  __device__ __forceinline__ void add(const Channels&, int first, int, const Part& part,
                                      real (&v)[C]) const {
    with_chunk(first, [&](const auto& vectors) {
      each_constant<kVectorsTogether>([&](auto i) {
        const real factor = part(i);
        each_constant<C>([&](auto k) { v[k] += factor * vectors[i][k]; });
      });
    });
  }

 private:
  template <class Visit>
  __device__ __forceinline__ void with_chunk(int first, const Visit& visit) const {
    if (first == 0)
      visit(near);
    else
      visit(far + (first - kVectorsTogether));
  }
};
// All of it in memory, as the vectors themselves.
template <class T>
struct FarBasis {
  static constexpr int kMost = kKrylovMostLong;
  real* first;  // the thread's first element of (kMost, D)
  int64_t D;

  __device__ __forceinline__ void clear() const {}

  __device__ __forceinline__ real& at(int i, int64_t k) const {
    return first[i * D + k * T::kSize];
  }
  template <class Channels, class V>
  __device__ __forceinline__ void put(const Channels& c, int i, const V& v) const {
    c.each([&](auto k, auto) { at(i, k) = v[k]; });
  }
  template <class Channels, class V>
  __device__ __forceinline__ void dots(const Channels& c, int first, int m, const V& v,
                                       Parts& parts) const {
#pragma unroll
    for (int i = 0; i < kVectorsTogether; ++i) {
      parts[i] = 0;
      if (first + i < m) c.each([&](auto k, auto) { parts[i] += v[k] * at(first + i, k); });
    }
  }
  template <class Channels, class Part, class V>
  __device__ __forceinline__ void add(const Channels& c, int first, int m, const Part& part,
                                      V& v) const {
#pragma unroll
    for (int i = 0; i < kVectorsTogether; ++i) {
      const real factor = part(i);
      if (first + i < m) c.each([&](auto k, auto) { v[k] += factor * at(first + i, k); });
    }
  }
};

// c for one sigma, divided by t: the solution is |b| c.
struct Section {
  real sigma;
  bool negative;  // t, whose sign is that of det(sigma I - H)
  real squares;   // |c|^2
  real last;      // |c_m|
};

// H's tiles of B by B, those above and on the diagonal, a column of tiles after the other.
template <int Most>
struct Krylov {
  static constexpr int kMost = Most, B = 8;
  static constexpr int kBlocks = (Most + B - 1) / B, kTiles = kBlocks * (kBlocks + 1) / 2;
  // Reals of memory: H, the inverse of its subdiagonal, and c.
  static constexpr int kSpace = (kTiles * B + 2 * kBlocks) * B;

  real *h, *inverse, *c;
  real squares = 0;  // |H|^2
  real start = 0;    // lengths of the first vector, and of
  real next = 0;     // the one after the last before it became 1

  __device__ __forceinline__ explicit Krylov(real* space)
      : h(space), inverse(h + kTiles * B * B), c(inverse + kBlocks * B) {}

  static __device__ __forceinline__ int tile(int i, int j) { return (j * (j + 1) / 2 + i) * B * B; }
  __device__ __forceinline__ real& at(int i, int j) const {
    return h[tile(i / B, j / B) + i % B * B + j % B];
  }

  // Ready for a first vector of that length. Elements that are not part of H yet must be finite.
  template <class T>
  __device__ __forceinline__ void begin(const T& team, real length) {
    start = length;
    squares = 0;
    for (int i = team.rank * Quad::kCount; i < kTiles * B * B; i += T::kSize * Quad::kCount)
      *reinterpret_cast<Quad*>(h + i) = Quad{};
    team.sync();
  }

  // (sigma I - H) c = t e_1 from c_m = 1 upwards (Hyman). What becomes large makes all before it
  // smaller. keep: c becomes what it is for this thread. There are no branches on a row, so that
  // what is read of H does not wait for the rows before.
  __device__ __forceinline__ Section solve(int m, real sigma, bool keep) const {
    alignas(16) real x[kBlocks * B];
    const int blocks = (m + B - 1) / B;
    Section at{sigma, false, 0, 1};
    real t = 1;
#pragma unroll 1
    for (int row = blocks - 1; row >= 0; --row)
      if ((row + 1) * B <= m)
        solve_rows(std::true_type(), m, row, blocks, x, t, at);
      else
        solve_rows(std::false_type(), m, row, blocks, x, t, at);
    const real part = 1 / t;
    if (keep)
      for (int i = 0; i < blocks * B; ++i) c[i] = x[i] * part;
    return {sigma, t < 0, at.squares * part * part, magnitude(at.last * part)};
  }

  // What the projected equation leaves of the whole one.
  __device__ __forceinline__ real missing(const Section& section) const {
    return magnitude(next * section.last * start);
  }

  // The solution for sigma = 1 if the equation is `linear`, or for the largest sigma with |c| = |n|, and its c;
  // `solved`: whether that solves the whole equation. Not `certain`: one that does not is given up
  // early.
  template <class T>
  __device__ __forceinline__ Section secular(const T& team, bool linear, int m, real D, real eps,
                                             real within, bool certain, bool& solved) const {
    static_assert(kKrylovSections == kWarp);
    const int lane = team.lane();
    real low = ::sqrt(eps);
    real high = ::sqrt(squares) + static_cast<real>(1.5) * start / ::sqrt(D) + 2 * low;
    bool top = false;
    Section at{};
#pragma unroll 1
    for (int round = linear ? kKrylovRounds : 0;; ++round) {
      const bool last = round == kKrylovRounds;
      const real part = static_cast<real>(lane + 1) / kWarp;
      const real sigma = linear       ? real(1)
                         : last       ? (low + high) / 2
                         : round == 0 ? low * ::exp2(part * ::log2(high / low))
                                      : low + (high - low) * part;
      at = solve(m, sigma, last && team.rank == 0);
      if (last) break;
      if (round == 0) top = __shfl_sync(kAllLanes, at.negative, kWarp - 1);
      // Too small a sigma: |c| is larger than |n|, or has been infinite since.
      const real most = D * (1 - eps / (sigma * sigma));
      const bool below =
          lane < kWarp - 1 && (at.negative != top || !(start * start * at.squares < most));
      const int k = kWarp - __clz(static_cast<int>(__ballot_sync(kAllLanes, below)));
      const real left = __shfl_sync(kAllLanes, missing(at), k);
      if (k > 0) low = __shfl_sync(kAllLanes, sigma, k - 1);
      high = __shfl_sync(kAllLanes, sigma, k);
      solved = left <= kKrylovHope * high * within;
      if (round == 1 && !certain && !solved) return at;
    }
    team.sync();
    solved = missing(at) <= at.sigma * within;
    return at;
  }

 private:
  // B rows, `whole` if all of them are among m. t is c of the row above; `at` has c's squares and c_m.
  template <class Whole>
  __device__ __forceinline__ void solve_rows(Whole whole, int m, int row, int blocks,
                                             real (&x)[kBlocks * B], real& t, Section& at) const {
    constexpr real kLarge = static_cast<real>(1e6);
    real total[B]{}, z[B]{}, d[B][B], subdiagonal[B];
    load(h + tile(row, row), d);
    load(inverse + row * B, subdiagonal);
#pragma unroll 1
    for (int column = row + 1; column < blocks; ++column) {
      real of_h[B][B], of_x[B];
      load(h + tile(row, column), of_h);
      load(x + column * B, of_x);
#pragma unroll
      for (int s = 0; s < B; ++s)
#pragma unroll
        for (int r = 0; r < B; ++r) total[r] += of_h[r][s] * of_x[s];
    }
    const auto shrink = [&] {
      if (!(magnitude(t) > kLarge)) return;
      t *= 1 / kLarge;
      at.squares *= 1 / (kLarge * kLarge);
      at.last *= 1 / kLarge;
#pragma unroll
      for (int r = 0; r < B; ++r) {
        z[r] *= 1 / kLarge;
        total[r] *= 1 / kLarge;
      }
#pragma unroll 1
      for (int j = (row + 1) * B; j < blocks * B; ++j) x[j] *= 1 / kLarge;
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
      if (r == B / 2) shrink();
    }
    if (row > 0) shrink();
#pragma unroll
    for (int r = 0; r < B; ++r) {
      at.squares += z[r] * z[r];
      x[row * B + r] = z[r];
    }
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
