// Rows that do not meet, each with an equation of its own,
//   y = N(A + S . (B y))
// with N a LayerNorm, RMS or the identity (any_norm), solved with nothing of the matrices B but
// products: one with every row's B at once is an iteration. The method, and the root where there
// are several, are those of ops/kronecker_solve.md. On a GPU, which has no kernel for that, rows are
// iterated, from 0 on, without N from A, and a row's step is halved if it does not help.
#pragma once

#include <fprnn/ops/kronecker_solve.h>

#include <functional>

namespace fprnn {

bool has_krylov(const Context& context);  // whether there is a kernel

struct RowEquation {   // rows = product of leading axes
  Tensor offset;       // (..., D): A
  Tensor gain;         // (..., D): S
  Tensor weight = {};  // (D) and
  Tensor bias = {};    // (D), of N
  real eps = real(1e-5);
};
// x (..., D) -> B x of every row. A row of the result depends on that row of x alone.
using Products = std::function<Tensor(const Tensor& x)>;

// The y of every row, with
//   max |N(A + S . (B y)) - y| <= tolerance (max |N(..)| + kResidualFloor)
// counts (rows) are raised to the row's iterations, max_iterations where those were not enough. NaN
// among a row's numbers makes its y NaN. A row's bits depend on no other row.
// ShapeError: sizes do not fit. ValueError: as check_limits.
Tensor krylov_solve(const RowEquation& at, const Products& products, real tolerance,
                    int64_t max_iterations, const IntTensor& counts);

// How far a row has come. It asks for one product at a time: of y, or of a vector of the space.
struct KrylovRow {
  int32_t count = 0;            // products so far
  int32_t m = -1;               // vectors that have been multiplied; -1: y is
  int32_t most = 0, look = 0;   // vectors there may be; until when no solution is tried
  int32_t known = 0;            // of plain steps
  bool linear = false;          // the space is of J at y, not of M
  bool done = false;            // it asks for no more products
  real start = 0, inverse = 1;  // the first vector's length, 1 / sigma at y
  real size = 0, last = 0;      // max |f|, max |f - y| an evaluation ago
};
// Takes the products that rows have asked for, and leaves what they ask for next.
struct KrylovAdvance {
  static constexpr std::string_view kCpuOnly = "krylov_solve";
  const real* product;  // (rows, D): B ask
  const real* offset;   // (rows, D)
  const real* gain;     // (rows, D)
  const real* weight;   // (D), null: N is the identity
  const real* bias;     // (D), null: not a LayerNorm
  real* y;              // (rows, D)
  real* ask;            // (rows, D)
  real* space;          // (rows, krylov_space(D)), of each row's own
  KrylovRow* state;     // (rows)
  int32_t* iterations;  // (rows)
  int64_t rows, D;
  real eps, tolerance;
  int64_t max_iterations;
};
void run(Cpu, const KrylovAdvance&);

// Reals of a row's space, and of the working space of one row at a time.
inline __attribute__((always_inline)) int64_t krylov_space(int64_t D) {
  const int64_t most = krylov_most(D);
  return (most + 2) * D + (most + 2) * most;
}
inline __attribute__((always_inline)) int64_t krylov_work(int64_t D) {
  return (2 + kKrylovSections) * krylov_most(D);
}

}  // namespace fprnn
