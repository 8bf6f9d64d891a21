// One time step of a fixed-point layer with a Kronecker mixer: y = N(A + S . ((I - Q) y)) as in
// ops/fp_mamba_solve.h, but I - Q has full rank. Plain steps y <- N(..) from 0 where they are
// quick; otherwise the equation is solved in a Krylov space, where it is one in a single number
// (ops/kronecker_solve.md). Each token goes on until it has converged. An iteration is a product
// with
// I - Q: D (m1 + m2) multiply-adds, and what goes with it. Source: arXiv 2503.10799, sections 3 and 4.
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

// The y of every token, to max |N(A + S . ((I - Q) y)) - y| <= tolerance (max |N(..)| + 1e-8). NaN among a
// token's numbers makes its y NaN. ShapeError: sizes do not fit. ValueError: tolerance negative or
// not finite, max_iterations below 1.
LocalSolution kronecker_solve(const KroneckerProblem& problem, real tolerance,
                              int64_t max_iterations);
// The same, with the counts left where they are made, (tokens): nothing is waited for.
Tensor kronecker_solve(const KroneckerProblem& problem, real tolerance, int64_t max_iterations,
                       const IntTensor& iterations);

// What the solvers of all devices share: Krylov's space after evaluation kKrylovAfter, of at most D and
// kKrylovMost vectors for up to kKrylovLong channels, kKrylovMostLong for more; sigma is looked for
// among kKrylovSections at a time, kKrylovRounds times.
inline constexpr int kKrylovAfter = 24, kKrylovLong = 128, kKrylovMost = 128, kKrylovMostLong = 64;
// Nearer than this, relative to max |f|, plain steps are at their root: what is left is rounding.
inline constexpr real kKrylovNear = static_cast<real>(kDouble ? 1e-14 : 2e-6);
inline constexpr int kKrylovSections = 32, kKrylovRounds = kDouble ? 9 : 5;
// More vectors are made if after two rounds that many times too much is left: sigma is known to a hundredth.
inline constexpr real kKrylovHope = 100;
// Whether it is looked if m vectors are enough. A macro: kernel files share no functions.
#define FPRNN_KRYLOV_LOOKS(m)                                                                \
  ((m) == 8 || (m) == 12 || (m) == 16 || (m) == 24 || (m) == 32 || (m) == 48 || (m) == 64 || \
   (m) == 96)

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
