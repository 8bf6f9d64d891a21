// y = f(y, inputs) as an op: the solution is found without recording, and its gradient follows from
// the implicit function theorem, whatever found it (arXiv 2503.10799, equation 17):
//   d loss / d inputs = (df / d inputs)^T v
//   v = g + J^T v
// with J = df / dy at the solution and g the solution's cotangent. Memory: one recorded application
// of f, however many iterations the solution took. Derivation: fixed_point.md.
#pragma once

#include <fprnn/autograd/gradient_rule.h>
#include <fprnn/autograd/solution.h>
#include <fprnn/autograd/solve_report.h>
#include <fprnn/autograd/tape.h>

#include <memory>

namespace fprnn {

struct FixedPointOptions {
  real tolerance = static_cast<real>(1e-4);
  Unconverged unconverged = Unconverged::warn;
  GradientRule gradient = {};
  bool report = true;  // read the report at once; it is anyway unless all is accepted
  // Where each backward says how the exact gradient's v = g + J^T v was solved.
  std::shared_ptr<SolveReport> adjoint = {};
};
struct FixedPointResult {
  Var y;                    // (B, T, D)
  FixedPointReport report;  // empty unless asked for
  SolveReport on_device;    // the same, not yet read
};
// A gradient that misses its tolerance is treated as a solution that does; for a solver's own
// adjoint, 100 times the tolerance is allowed. A solver that knows its residual is not judged by
// applying f once more. The options hold as they are now: what is changed later changes no
// gradient. ShapeError: step changes the shape of y, which must be (B, T, D). ValueError: a
// tolerance or cap out of range.
FixedPointResult fixed_point(const Step& step, const std::vector<Var>& inputs, Tensor start,
                             const Solve& solve, const FixedPointOptions& options);

}  // namespace fprnn
