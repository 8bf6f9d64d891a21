// Damped Picard iteration,
//   y <- damping f(y) + (1 - damping) y
// Positions before which all residuals are within the tolerance stay as they are, so an answer
// depends neither on batch mates nor on what comes after it.
//
// On a GPU the host looks only now and then whether all have settled: up to three applications more
// than are needed change nothing but the time, and none is waited for at the cap. Cost of an
// iteration besides f: two reads of y, and one write of rows that are damped or stay.
#pragma once

#include <fprnn/autograd/solution.h>

namespace fprnn {

struct PicardOptions {
  real tolerance = static_cast<real>(1e-4);
  int64_t max_iterations = 1000;
  real damping = 1;
  // Rows depend on later ones instead: there a sequence stays once all of it is within the
  // tolerance.
  bool backwards = false;
  // If not 0: the damping of a sequence is halved, down to 1/64, whenever so many iterations in a
  // row have not brought its residual below 9/10 of the best before.
  int shrink_after = 0;
};
// ShapeError: start is not (B, T, D), or f changes its shape. ValueError: an option out of range.
Solution picard(const Map& f, Tensor start, const PicardOptions& options);

// Picard iteration over B sequences of T steps is worth its time, beside a solve step by step, if
// the slowest sequence needs fewer iterations than this; 0: never.
int64_t solver_crossover(DeviceKind device, int64_t B, int64_t T);
inline int64_t solver_crossover(const Context& context, int64_t B, int64_t T) {
  return solver_crossover(context.device(), B, T);
}
// Whether it ever is.
inline bool has_crossover(const Context& context) { return context.device() == DeviceKind::cuda; }

}  // namespace fprnn
