// How a solve went, for each sequence: iterations and the residual of the whole f at the y that was
// returned.
#pragma once

#include <fprnn/core/tensor.h>

#include <string_view>
#include <vector>

namespace fprnn {

// What is done when a sequence misses the tolerance: nothing but the report, one line on the
// standard error stream, or a ConvergenceError.
enum class Unconverged { accept, warn, fail };

// A solve of B sequences, read: on the host.
struct FixedPointReport {
  std::vector<int64_t> iterations;
  std::vector<real> residual;
  real tolerance = 0;

  // Within the tolerance; NaN is not.
  bool converged(int64_t sequence) const { return residual[sequence] <= tolerance; }
  int64_t unconverged() const;     // how many did not
  int64_t max_iterations() const;  // of all sequences
  double mean_iterations() const;  // over the sequences
  real max_residual() const;       // NaN if any is
};
// `what` stands in the message: "the <what> must converge".
void act_on(const FixedPointReport& report, Unconverged action, std::string_view what);

// The same on the device, where it waits for nothing until it is read.
struct SolveReport {
  Tensor residual = {};       // (B), or (B, T) of what each token repeats
  IntTensor iterations = {};  // likewise, undefined: one each
  real tolerance = 0;
  FixedPointReport read() const;  // empty before any solve
};

}  // namespace fprnn
