// One time step of a fixed-point layer with a Kronecker mixer: y = N(A + S . ((I - Q) y)) as in
// ops/fp_mamba_solve.h, but I - Q has full rank. It is solved in a Krylov space, where it is one
// equation in a single number and plain steps y <- N(..) cost no product (ops/kronecker_solve.md):
// the root is the one that they come to from y = delta, N's bias. Each token goes on until it has
// converged. An iteration is a product with I - Q: D (m1 + m2) multiply-adds, and what goes with
// it. Source: arXiv 2503.10799, sections 3 and 4.
#pragma once

#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/kronecker.h>

namespace fprnn {

struct KroneckerProblem {  // tokens = product of leading axes, D = m1 m2
  Tensor left, right;      // (..., m1, m1), (..., m2, m2): KroneckerFactors
  Tensor offset, gain;     // (..., D): A and S
  Tensor weight = {};      // (D), of the LayerNorm N
  Tensor bias = {};        // (D); both undefined: N is the identity
  real scale = 1;          // of the mixer
  real eps = real(1e-5);
};

// The y of every token, to max |N(A + S . ((I - Q) y)) - y| <= tolerance (max |N(..)| + kResidualFloor). NaN among a
// token's numbers makes its y NaN. ShapeError: sizes do not fit. ValueError: tolerance negative or
// not finite, max_iterations below 1.
LocalSolution kronecker_solve(const KroneckerProblem& problem, real tolerance,
                              int64_t max_iterations);
// The same, with the counts left where they are made, (tokens): nothing is waited for.
Tensor kronecker_solve(const KroneckerProblem& problem, real tolerance, int64_t max_iterations,
                       const IntTensor& iterations);

// What the solvers of all devices share: Krylov's space of at most D and kKrylovMost vectors for up to
// kKrylovLong channels, kKrylovMostLong for more. The first kKrylovLook vectors are looked at, and
// then as many more as it takes to halve what is missing so often, kKrylovLook at most. At the
// first look kKrylovFirst plain steps are taken in it, at each other kKrylovMore. sigma is looked
// for if they leave no more than kKrylovHope times too much, among kKrylovSections at a time, first
// in distances kKrylovNearest, relative, and twice as far each, on both sides of where they have
// come, up to kKrylovRounds times more, until |c| is |n| to kKrylovMatch, relative.
inline constexpr int kKrylovLong = 128, kKrylovMost = 128, kKrylovMostLong = 48;
inline constexpr int kKrylovLook = 8, kKrylovFirst = 16, kKrylovMore = 12;
inline constexpr int kKrylovSections = 32, kKrylovRounds = kDouble ? 9 : 5;
inline constexpr real kKrylovHope = 2, kKrylovNearest = static_cast<real>(2e-5);
inline constexpr real kKrylovMatch = static_cast<real>(kDouble ? 1e-14 : 2e-6);
// Nearer than this, relative to max |f|, plain steps are at their root: what is left is rounding.
inline constexpr real kKrylovNear = static_cast<real>(kDouble ? 1e-14 : 2e-6);

struct KroneckerSolve {
  const real* left;     // (tokens, m1, m1)
  const real* right;    // (tokens, m2, m2)
  const real* offset;   // (tokens, D)
  const real* gain;     // (tokens, D)
  const real* weight;   // (D), null: N is the identity
  const real* bias;     // (D), null with weight
  real* y;              // (tokens, D)
  int32_t* iterations;  // (tokens): max_iterations where that many were not enough
  int64_t tokens, m1, m2;
  real scale, eps, tolerance;
  int64_t max_iterations;
};
void run(Cpu, const KroneckerSolve&);
void run(Cuda, const KroneckerSolve&);

}  // namespace fprnn
