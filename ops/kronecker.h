// The Kronecker channel mixer (arXiv 2503.10799, section 4) of D = m1 m2 channels, v as rows X (m1,
// m2):
//   Q v = v - scale left^T X right
// So I - Q has full rank at the cost of D (m1 + m2) multiply-adds. How large it is:
// ops/mixer_bounds.md.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// The most square m1 m2 = D with m1 <= m2.
struct KroneckerSizes {
  int64_t m1, m2;
  // Numbers of both lower triangles.
  int64_t triangles() const { return m1 * (m1 + 1) / 2 + m2 * (m2 + 1) / 2; }
};
KroneckerSizes kronecker_sizes(int64_t D);

// How K = E E^T is normalised. row: every row is divided by its length. spectral: K is divided by
// its largest eigenvalue as eight power iterations estimate it. row_spectral: first by rows, then
// by the eigenvalue.
enum class KroneckerNorm { row, spectral, row_spectral };

// The two gated factors, (..., m1, m1) and (..., m2, m2):
//   left = diag(g_1) K_1,  right = (diag(g_2) K_2)^T
struct KroneckerFactors {
  Var left, right;
};

// k (..., triangles): the upper triangles of E_1 and E_2 row by row; gates (..., m1 + m2). Keeps k
// and gates; backward recomputes K. ShapeError: sizes are not those of D. ValueError: eps <= 0.
KroneckerFactors kronecker_factors(const Var& k, const Var& gates, int64_t D, KroneckerNorm norm,
                                   real eps);

// v (..., D) as rows X (m1, m2) -> v - scale left^T X right.
Var kronecker(const KroneckerFactors& factors, const Var& v, real scale);

// Rounds of the power method that estimate an eigenvalue.
inline constexpr int64_t kPowerIterations = 8;

// One of the two factors of every token. k and gates are parts of rows that are k_stride and
// gate_stride long.
struct KroneckerFactorForward {
  const real* k;           // (tokens, m (m + 1) / 2)
  const real* gates;       // (tokens, m)
  real* factor = nullptr;  // (tokens, m, m)
  int64_t tokens, m, k_stride, gate_stride;
  KroneckerNorm norm;
  bool transposed;
  real eps;
};
struct KroneckerFactorBackward {
  KroneckerFactorForward forward;  // its inputs; factor is not read
  const real* dfactor;             // (tokens, m, m)
  real* dk;                        // like k
  real* dgates;                    // like gates
};
struct KroneckerForward {
  const real* left;   // (tokens, m1, m1)
  const real* right;  // (tokens, m2, m2)
  const real* v;      // (tokens, m1, m2)
  real* y;            // (tokens, m1, m2)
  int64_t tokens, m1, m2;
  real scale;
};
struct KroneckerBackward {
  KroneckerForward forward;  // its inputs; y is not read
  const real* dy;            // (tokens, m1, m2)
  real* dleft;               // (tokens, m1, m1)
  real* dright;              // (tokens, m2, m2)
  real* dv;                  // (tokens, m1, m2)
};
void run(Cpu, const KroneckerFactorForward&);
void run(Cpu, const KroneckerFactorBackward&);
void run(Cpu, const KroneckerForward&);
void run(Cpu, const KroneckerBackward&);
void run(Cuda, const KroneckerFactorForward&);
void run(Cuda, const KroneckerFactorBackward&);
void run(Cuda, const KroneckerForward&);
void run(Cuda, const KroneckerBackward&);

}  // namespace fprnn
