// A block of sequences going through time op by op, forwards to solve and backwards for the exact
// adjoint. Every op works on rows that do not meet, so results do not depend on how sequences are
// put into blocks.
#pragma once

#include <fprnn/models/solvers/sequence_solver.h>

namespace fprnn {

class StepSweep {
 public:
  // The sequences begin .. end of the problem.
  StepSweep(const SequenceProblem& problem, int64_t begin, int64_t end);

  // Solves all steps into y (B, T, D); the carry out of the last. iterations (end - begin) become
  // the most of any step.
  Var solve(const Tensor& y, const IntTensor& iterations) const;
  // The roots of all steps' equations, each with the past that y (B, T, D) gives it, into roots, of
  // the same shape.
  void roots_at(const Tensor& y, const Tensor& roots) const;
  // v = g + J^T v for the solution y, written over g, both (B, T, D). iterations as above, where a
  // step's own equation is iterated. Steps are recorded a chunk at a time, about sqrt(T) of them,
  // from carries that a first pass saves.
  void adjoint(const Tensor& y, const Tensor& g, const IntTensor& iterations) const;

 private:
  struct RecordedStep;
  struct FromLater;
  Tensor step_of(const Tensor& x, int64_t t) const;  // x[begin .. end, t] as (rows, 1, D)
  Past past_of(const Tensor& y, int64_t t, const Var& carry) const;
  RecordedStep record_step(const Tensor& y, int64_t t, const Var& carry) const;
  void adjoint_step(const RecordedStep& step, const Tensor& g, int64_t t,
                    const IntTensor& iterations, FromLater& later) const;

  const FixedPointMap& map_;
  const SolverOptions& options_;
  const FixedPointInputs in_;
  const Past past_;
  const int64_t begin_, rows_;
};

}  // namespace fprnn
