// The rule of the authors' code, for comparison: a step size for each sequence that shrinks when
// its best residual has not improved for `patience` iterations, and a stop for all when the
// quantile of the best residuals is below the threshold. Answers depend on batch mates, and the
// best residual is not the last.
#pragma once

#include <fprnn/autograd/solution.h>

#include <vector>

namespace fprnn {

struct PatienceOptions {
  real threshold = static_cast<real>(0.1);
  double quantile = 1;  // with linear interpolation; the authors train with 0.75
  int64_t max_iterations = 1000;
  real step_size = static_cast<real>(0.99), decay = static_cast<real>(0.9);
  real min_step_size = static_cast<real>(1e-3);
  int patience = 15;
  bool operator==(const PatienceOptions&) const = default;
};
struct PatienceHistory {
  std::vector<std::vector<real>> best_residual;  // (iterations, B)
  std::vector<real> step_size;                   // (B), at the end
};
// ShapeError: start is not (B, T, D), or f changes its shape. ValueError: an option out of range.
Solution patience(const Map& f, Tensor start, const PatienceOptions& options,
                  PatienceHistory* history = nullptr);

}  // namespace fprnn
