// One time step of a fixed-point layer with a Kronecker mixer (arXiv 2503.10799, sections 3 and 4),
//   y = N(A + S . ((I - Q) y))
// as in ops/fp_mamba_solve.h, but with I - Q of full rank. In a Krylov space it becomes one
// equation in a single number, and plain steps y <- N(..) cost no product (ops/kronecker_solve.md).
// The root is the one that plain steps from y = delta, N's bias, converge to. Each token goes on
// until it has converged. An iteration is one product with I - Q, D (m1 + m2) multiply-adds, and
// the work that goes with it.
#pragma once

#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker.h>

namespace fprnn {

struct KroneckerProblem {  // tokens = product of leading axes, D = m1 m2
  Tensor left, right;      // (..., m1, m1), (..., m2, m2): KroneckerFactors
  Tensor offset, gain;     // (..., D): A and S
  Tensor weight = {};      // (D) and
  Tensor bias = {};        // (D), of N, as in LocalProblem
  real scale = 1;          // of the mixer
  real eps = real(1e-5);
};

// The y of every token, with
//   max |N(A + S . ((I - Q) y)) - y| <= tolerance (max |N(..)| + kResidualFloor)
// NaN among a token's numbers makes its y NaN.
// ShapeError: sizes do not fit. ValueError: tolerance negative or not finite, max_iterations below
// 1.
LocalSolution kronecker_solve(const KroneckerProblem& problem, real tolerance,
                              int64_t max_iterations);
// The same with the counts on the device, in `iterations` (tokens): the host does not wait for
// them.
Tensor kronecker_solve(const KroneckerProblem& problem, real tolerance, int64_t max_iterations,
                       const IntTensor& iterations);

// Constants that the solvers of all devices share. The space has at most D vectors, and at most
// kKrylovMost for up to kKrylovLong channels or kKrylovMostLong for more. A solution in it is tried
// after kKrylovLook vectors, and then after as many more as halvings of the residual are missing,
// at most kKrylovLook. The first try takes kKrylovFirst plain steps in the space, each later one
// kKrylovMore.
//
// If these leave at most kKrylovHope times the residual that is allowed, sigma is searched for on
// both sides of the value they reached, kKrylovSections values at a time: the first at the relative
// distance kKrylovNearest, each next one twice as far, and then up to kKrylovRounds times between
// two of them, until |c| = |n| to the relative accuracy kKrylovMatch.
inline constexpr int kKrylovLong = 128, kKrylovMost = 128, kKrylovMostLong = 48;
inline constexpr int kKrylovLook = 8, kKrylovFirst = 16, kKrylovMore = 12;
inline constexpr int kKrylovSections = 32, kKrylovRounds = kDouble ? 9 : 5;
inline constexpr real kKrylovHope = 2, kKrylovNearest = static_cast<real>(2e-5);
inline constexpr real kKrylovMatch = static_cast<real>(kDouble ? 1e-14 : 2e-6);
// Plain steps have reached their root when they move by less than this, relative to max |f|: the
// rest is rounding.
inline constexpr real kKrylovNear = static_cast<real>(kDouble ? 1e-14 : 2e-6);
// The most vectors of the space of D channels. Always inlined, like everything that kernel files
// share (core/simd.h).
inline __attribute__((always_inline)) constexpr int64_t krylov_most(int64_t D) {
  return D > kKrylovLong ? kKrylovMostLong : D < kKrylovMost ? D : kKrylovMost;
}

struct KroneckerSolve {
  const real* left;     // (tokens, m1, m1)
  const real* right;    // (tokens, m2, m2)
  const real* offset;   // (tokens, D)
  const real* gain;     // (tokens, D)
  const real* weight;   // (D), null: N is the identity
  const real* bias;     // (D), null: not a LayerNorm
  real* y;              // (tokens, D)
  int32_t* iterations;  // (tokens): max_iterations where that many were not enough
  int64_t tokens, m1, m2;
  real scale, eps, tolerance;
  int64_t max_iterations;
};
void run(Cpu, const KroneckerSolve&);
void run(Cuda, const KroneckerSolve&);

}  // namespace fprnn
