// Four ways to solve y = f(y) for a whole sequence (models/fixed_point_map.h).
//
// sequential: one step after the other. There all but y_t is known, and y_t solves a small equation
// (models/mixer.h). Also the decoder: it needs what a step carries to the next and nothing
// else.
//
// parallel: damped Picard iteration over all steps at once; about as many iterations as the memory
// is long.
//
// automatic, named auto: parallel where it settles sooner than a sequential solve would be done,
// else sequential (models/solvers/automatic.h).
//
// patience: the authors' rule, for comparison.
//
// Which solution, where y = f(y) has several: the one that sequential finds, whose root of a step's
// equation depends on what came before that step and on nothing else. Picard iteration starts all
// steps at once, each from a past that still moves, and can settle at another. So parallel and
// automatic ask, once they have settled, for the root of every step's equation at the solution's
// own past, all steps at once. Where these are the solution, it is the sequential one, by induction
// over the steps; a sequence where they are not, by ten times the tolerance, is solved
// sequentially.
// What this cannot promise: where a step magnifies differences of the size of the tolerance, as
// Kronecker mixers at their initial weights do, two solutions within the tolerance part after some
// steps, also those of one solver with two tolerances. patience, and sequences that miss the
// tolerance, stay as they are.
#pragma once

#include <fprnn/autograd/gradient_rule.h>
#include <fprnn/autograd/solution.h>
#include <fprnn/autograd/solve_report.h>
#include <fprnn/models/fixed_point_map.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace fprnn {

enum class Solver { parallel, sequential, patience, automatic };
Solver solver_named(std::string_view name);  // ValueError: none of the four
std::string_view name_of(Solver solver);

struct PatienceOptions {
  real threshold = static_cast<real>(0.1);  // of the quantile of the best residuals
  double quantile = 1;  // with linear interpolation; the authors train with 0.75
  int64_t max_iterations = 1000;
  // At first, and the factor by which it shrinks.
  real step_size = static_cast<real>(0.99), decay = static_cast<real>(0.9);
  real min_step_size = static_cast<real>(1e-3);  // below which it shrinks no more
  int patience = 15;
  bool operator==(const PatienceOptions&) const = default;
};

struct SolverOptions {
  Solver solver = Solver::sequential;
  real tolerance = static_cast<real>(1e-4);
  int64_t max_iterations = 1000;  // parallel and patience: of the whole; sequential: of each step
  real damping = 1;               // parallel
  int64_t crossover = 0;          // automatic: instead of solver_crossover; 0: that
  PatienceOptions patience = {};  // its max_iterations gives way to the one above
  GradientRule gradient = {};  // exact: one sweep back in time if sequential solved, else iterated
  Unconverged unconverged = Unconverged::warn;
  bool operator==(const SolverOptions&) const = default;

  // The tolerance of a step's equation. The rest, a tenth, or half where that is not enough, is for
  // f's rounding, which computes the same in another order.
  real of_a_step() const {
    return tolerance - std::max(tolerance / 10, std::min(tolerance / 2, kResidualRounding));
  }
};

// ValueError: a number that one of the solvers or gradients would refuse once it runs.
void check(const SolverOptions& options);

// y = f(y) for one batch, as values: no gradient flows through them.
struct SequenceProblem {
  FixedPointMap map;
  FixedPointInputs in;  // what f depends on besides y
  Past past;
  SolverOptions options;
  bool recorded;      // whether f will be recorded at the solution
  bool carry_wanted;  // whether anybody goes on from the last step
};

// How a solve by patience went.
struct PatienceHistory {
  std::vector<std::vector<real>> best_residual;  // (iterations, B)
  std::vector<real> step_size;                   // (B), at the end
};

// What a solver of sequences knows besides.
struct SequenceSolution : Solution {
  Solver used;        // who solved: never automatic
  Tensor carry = {};  // out of the last step; undefined where f must be asked for it
  // How many sequences parallel had brought to another solution than the sequential one.
  int64_t strayed = 0;
  PatienceHistory history = {};
};

// A solver as an object that solves one problem, which must outlive it.
class SequenceSolver {
 public:
  explicit SequenceSolver(const SequenceProblem& problem) : problem_(problem) {}
  virtual ~SequenceSolver() = default;
  // f is the problem's, start (B, T, D) the solver's to let go.
  virtual SequenceSolution solve(const Map& f, Tensor start) = 0;

 protected:
  const SequenceProblem& problem_;
};

struct SolverMemory;
// That of problem.options, where a step alone is its own equation.
std::unique_ptr<SequenceSolver> make_solver(const SequenceProblem& problem, SolverMemory& memory);

}  // namespace fprnn
