// A solver as an object that solves one problem once.
#pragma once

#include <fprnn/autograd/solution.h>
#include <fprnn/models/fixed_point_map.h>
#include <fprnn/models/solvers/solver.h>

#include <memory>

namespace fprnn {

struct SolverMemory;

// y = f(y) for one batch, as values: no gradient flows through them.
struct SequenceProblem {
  FixedPointMap map;
  FixedPointInputs in;
  Past past;
  SolverOptions options;
  bool recorded;      // whether f will be recorded at the solution
  bool carry_wanted;  // whether anybody goes on from the last step
};

class SequenceSolver {
 public:
  virtual ~SequenceSolver() = default;
  // f is the problem's, start (B, T, D) the solver's to let go.
  virtual Solution solve(const Map& f, Tensor start) = 0;
  virtual Solver used() const = 0;  // who solved: never automatic
  // The carry out of the last step; undefined where that must be asked of f at the solution.
  virtual Tensor carry() const { return {}; }
  // How many sequences parallel had brought to another solution than the sequential one.
  virtual int64_t strayed() const { return 0; }
};

// That of problem.options, where a step alone is its own equation. The problem must outlive it.
std::unique_ptr<SequenceSolver> make_solver(const SequenceProblem& problem, SolverMemory& memory,
                                            PatienceHistory& history);

}  // namespace fprnn
