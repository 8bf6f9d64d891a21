// The rule of the authors' code, for comparison: a step size for each sequence that shrinks when
// its best residual has not improved for `patience` iterations, and a stop for all when the
// quantile of the best residuals is below the threshold. Answers depend on batch mates, and the
// best residual is not the last.
#pragma once

#include <fprnn/models/solvers/solver.h>

namespace fprnn {

// ShapeError: start is not (B, T, D), or f changes its shape. ValueError: an option out of range.
Solution patience(const Map& f, Tensor start, const PatienceOptions& options,
                  PatienceHistory* history = nullptr);

class PatienceSolver : public SequenceSolver {
 public:
  using SequenceSolver::SequenceSolver;
  SequenceSolution solve(const Map& f, Tensor start) override;
};

}  // namespace fprnn
