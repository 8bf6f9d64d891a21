// y = f(y, inputs) as an op: the solution is found without recording, and its gradient follows from
// the implicit function theorem, whatever found it (arXiv 2503.10799, equation 17):
//   d loss / d inputs = (df / d inputs)^T v,   v = g + J^T v,   J = df / dy at the solution,
// with g the cotangent of the solution. Memory: one recorded application of f, however many
// iterations the solution took. Derivation: fixed_point.md.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

#include <memory>

namespace fprnn {

// Iterates are (B, T, D): B sequences that do not meet, and causal, f(y)_t depending on y_0 .. y_t. The
// residual at (b, t) is max_d |f(y) - y| / (max_d |f(y)| + kResidualFloor), that of a sequence its
// largest.

// f(y), and its residual (B, T) if whoever made f has compared it with y.
template <class T>
struct Judged {
  T f;
  Tensor residual;
  Judged(T f, Tensor residual = {}) : f(std::move(f)), residual(std::move(residual)) {}
};
using Map = std::function<Judged<Tensor>(const Tensor& y)>;

// v for g, where a solver knows more of J at its solution than products with it, and how often each
// sequence needed a product with J^T, undefined if once; it is judged like any other, within 100
// times the tolerance.
struct AdjointSolution {
  Tensor v;              // (B, T, D)
  IntTensor iterations;  // (B)
  AdjointSolution(Tensor v, IntTensor iterations = {})
      : v(std::move(v)), iterations(std::move(iterations)) {}
};
using Adjoint = std::function<AdjointSolution(const Tensor& g)>;

// What a solver returns; the number of times that each sequence needed f, which may still be on its way
// on a device.
struct Solution {
  Tensor y;
  std::vector<int64_t> iterations;  // (B)
  IntTensor counted = {};           // (B), if defined instead of those
  Adjoint adjoint = {};             // of the exact gradient; without one it iterates
  Tensor residual = {};             // (B), if the solver has applied f to y itself
  IntTensor settled = {};           // (B), of a solver that knows: how many positions have settled
  std::vector<int64_t> counts() const;  // of either, on the host
};
using Solve =
    std::function<Solution(const Map& f, Tensor start)>;  // start is the solver's to let go

// y <- damping f(y) + (1 - damping) y. Positions before which all residuals are within tolerance
// stay as they are, so an answer depends neither on batch mates nor on what comes after it. Rows of
// `backwards` maps depend on later ones instead: there a sequence stays once all of it is within
// tolerance.
struct PicardOptions {
  real tolerance = static_cast<real>(1e-4);
  int64_t max_iterations = 1000;
  real damping = 1;
  bool backwards = false;
  // If not 0: the damping of a sequence is halved, down to 1/64, whenever so many iterations in a row have not
  // brought its residual below 9/10 of the best before.
  int shrink_after = 0;
};
// On a GPU the host looks only now and then whether all have settled: up to three applications more than
// are needed change nothing but the time, and none is waited for at the cap. Cost of an iteration
// besides f: two reads of y, and one write of rows that are damped or stay.
Solution picard(const Map& f, Tensor start, const PicardOptions& options);

// The rule of the authors' code: a step size for each sequence that shrinks when its best residual has not
// improved for `patience` iterations, and a stop for all when the quantile of the best residuals is
// below the threshold. For comparison: answers depend on batch mates, and the best residual is not
// the last.
struct PatienceOptions {
  real threshold = static_cast<real>(0.1);
  double quantile = 1;  // with linear interpolation; the authors train with 0.75
  int64_t max_iterations = 1000;
  real step_size = static_cast<real>(0.99), decay = static_cast<real>(0.9);
  real min_step_size = static_cast<real>(1e-3);
  int patience = 15;
  bool operator==(const PatienceOptions&) const = default;
};
struct PatienceTrace {
  std::vector<std::vector<real>> best_residual;  // (iterations, B)
  std::vector<real> step_size;                   // (B), at the end
};
Solution patience(const Map& f, Tensor start, const PatienceOptions& options,
                  PatienceTrace* trace = nullptr);

// one_step: v = g, the paper's. neumann: v = sum over k <= terms of (J^T)^k g. exact: to the
// tolerance.
struct GradientRule {
  enum class Kind { one_step, neumann, exact } kind = Kind::one_step;
  int64_t terms = 0;
  real tolerance = kDouble ? static_cast<real>(1e-13) : static_cast<real>(1e-6);
  int64_t max_iterations = 1000;
  bool operator==(const GradientRule&) const = default;
};
// one-step, neumann:K with K up to 10,000, exact. ValueError: another name.
GradientRule gradient_named(std::string_view name);
std::string name_of(const GradientRule& rule);

// What is done when a sequence misses the tolerance: nothing but the report, one line on the standard error
// stream, or a ConvergenceError.
enum class Unconverged { accept, warn, fail };

// Of a solve, for each sequence: the residual of the whole f at the y that was returned.
struct FixedPointReport {
  std::vector<int64_t> iterations;
  std::vector<real> residual;
  real tolerance = 0;

  bool converged(int64_t sequence) const { return residual[sequence] <= tolerance; }
  int64_t unconverged() const;  // how many did not
  int64_t max_iterations() const;
  double mean_iterations() const;
  real max_residual() const;  // NaN if any is
};

// The same on the device, where it waits for nothing until it is read.
struct SolveRecord {
  Tensor residual = {};       // (B)
  IntTensor iterations = {};  // (B), undefined: one each
  real tolerance = 0;
  FixedPointReport read() const;  // empty before any solve
};

struct FixedPointOptions {
  real tolerance = static_cast<real>(1e-4);
  Unconverged unconverged = Unconverged::warn;
  GradientRule gradient = {};
  bool report = true;  // read the report at once; it is anyway unless all is accepted
  // Where each backward says how the exact gradient's v = g + J^T v was solved.
  std::shared_ptr<SolveRecord> adjoint = {};
};
struct FixedPointResult {
  Var y;                    // (B, T, D)
  FixedPointReport report;  // empty unless asked for
  SolveRecord record;
};
// step(y, inputs) must use those two alone: it is called with other Vars than the ones given here,
// which may be undefined where step knows what that means. A gradient that misses its tolerance is
// treated as a solution that does. ShapeError: step changes the shape of y, which must be (B, T,
// D).
// ValueError: a tolerance or cap out of range.
// A solver that knows its residual is not judged by applying f once more. The options hold as they
// are now: what is changed later changes no gradient.
using Step = std::function<Judged<Var>(const Var& y, const std::vector<Var>& inputs)>;
FixedPointResult fixed_point(const Step& step, const std::vector<Var>& inputs, Tensor start,
                             const Solve& solve, const FixedPointOptions& options);

// The residuals of y where f(y) is f, both (B, T, D): the largest of each sequence, (B), NaN where any is.
Tensor largest_residuals(const Tensor& f, const Tensor& y);

struct RowResiduals {
  const real* f;   // (rows, D)
  const real* y;   // (rows, D)
  real* residual;  // (rows)
  int64_t rows, D;
};
// f <- step f + (1 - step) y, row by row: f becomes the next iterate.
struct DampedUpdate {
  const real* y;     // (rows, D)
  const real* step;  // (rows); 0: the row is y's, 1: it is f's already
  real* f;           // (rows, D)
  int64_t rows, D;
};
// What the residuals of an iteration mean for each sequence: which positions stay from now on, and the
// step of the others. A sequence that has settled changes no more.
struct SettleSequences {
  const real* residual;  // (B, T)
  int32_t* settled;      // (B): positions that stay
  int32_t* iterations;   // (B)
  int32_t* since;        // (B): iterations that were no better than the best
  real* best;            // (B): the best residual
  real* damping;         // (B)
  real* step;            // (B, T): of the update
  int64_t B, T;
  int32_t iteration;  // from 1 on
  real tolerance;
  bool backwards;
  int shrink_after;
};
// The largest of each row; NaN if one of it is, 0 if it is empty. None is negative.
struct LargestOfRows {
  const real* x;  // (rows, n)
  real* largest;  // (rows)
  int64_t rows, n;
};
void run(Cpu, const RowResiduals&);
void run(Cpu, const LargestOfRows&);
void run(Cpu, const DampedUpdate&);
void run(Cpu, const SettleSequences&);
void run(Cuda, const RowResiduals&);
void run(Cuda, const LargestOfRows&);
void run(Cuda, const DampedUpdate&);
void run(Cuda, const SettleSequences&);

}  // namespace fprnn
