// A token's equation in its Krylov space, by a team, with the names of ops/kronecker_solve.md: the
// operator's Hessenberg matrix H in the basis of cuda/krylov_basis.cuh, in the team's memory, and
// what its warps do with it (cuda/hessenberg.cuh).
#pragma once

#include <fprnn/cuda/hessenberg.cuh>
#include <fprnn/cuda/kronecker.cuh>

namespace fprnn::cuda {

template <class T, int Most>
struct Krylov : Hessenberg<Most> {
  using H = Hessenberg<Most>;
  using H::B, H::c, H::h, H::inverse, H::plain, H::start, H::inverse_start, H::squares;
  static constexpr int kMost = Most;
  // All warps do the same, or where there are many, so that others have the multiprocessor meanwhile,
  // the first does it and tells the others.
  static constexpr bool kAlone = T::kWarps >= 4;
  static constexpr int kSolvers = kAlone ? 1 : T::kWarps, kTold = kAlone ? 8 : 0;
  // Reals of memory: H, the inverse of its subdiagonal, c, plain steps of each that does them, and what is told.
  static constexpr int kSpace = H::kSize + (2 + kSolvers) * H::kVector + kTold;

  const T& team;
  real* told;
  real next = 0;  // length of the vector after the last before it became 1
  bool stepped = false;

  __device__ __forceinline__ Krylov(const T& team, real D, real eps, real* space)
      : H{.h = space,
          .inverse = space + H::kSize,
          .c = space + H::kSize + H::kVector,
          .plain =
              space + H::kSize + 2 * H::kVector + kTold + (kAlone ? 0 : team.warp()) * H::kVector,
          .D = D,
          .eps = eps},
        team(team),
        told(space + H::kSize + 2 * H::kVector) {}

  // Ready for a first vector of that length. Elements that are not part of H yet are 0.
  __device__ __forceinline__ void begin(real length) {
    start = length;
    inverse_start = 1 / length;
    squares = 0;
    stepped = false;
    for (int i = team.rank * Quad::kCount; i < H::kSize; i += T::kSize * Quad::kCount)
      *reinterpret_cast<Quad*>(h + i) = Quad{};
    if (solves())
      for (int i = team.lane(); i < H::kVector; i += kWarp) plain[i] = i == 0;
    team.sync();
  }

  // Plain steps from n = 0 on; they go on when the space has grown.
  __device__ __forceinline__ PlainSteps go_on(int m) {
    const int count = stepped ? kKrylovMore : kKrylovFirst;
    stepped = true;
    if constexpr (!kAlone) return H::go_on(m, count);
    if (solves()) {
      const PlainSteps at = H::go_on(m, count);
      if (team.rank == 0) {
        told[0] = at.sigma;
        told[1] = at.last;
      }
    }
    team.sync();
    return {told[0], told[1]};
  }

  // What the projected equation leaves of the whole one, for a next vector whose largest element that is.
  __device__ __forceinline__ real missing(real last, real largest) const {
    return magnitude(next * last * start) * largest;
  }

  // As a warp's; c is whole for the team.
  __device__ __forceinline__ Section root(int m, bool linear, real sigma, real match) const {
    Section at{};
    if constexpr (!kAlone) {
      at = H::root(m, linear, sigma, match, team.warp() == 0);
    } else if (solves()) {
      at = H::root(m, linear, sigma, match, true);
      if (team.rank == 0) {
        told[2] = at.sigma;
        told[3] = at.squares;
        told[4] = at.last;
      }
    }
    team.sync();
    if constexpr (kAlone) at = {told[2], false, told[3], told[4]};
    return at;
  }

 private:
  __device__ __forceinline__ bool solves() const { return !kAlone || team.warp() == 0; }
};

}  // namespace fprnn::cuda
