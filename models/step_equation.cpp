#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/mixer.h>
#include <fprnn/models/step_equation.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/norm.h>

namespace fprnn {

Var apply(const StepEquation& at, const Mixer& mixer, const Var& y) {
  const Var fed_back = sub(y, mixer.apply(at.q, y));
  const Var v = add(at.offset, mul(at.gain, fed_back));
  return at.norm_weight.defined() ? layer_norm(v, at.norm_weight, at.norm_bias, at.eps) : v;
}

Tensor iterate_rows(const Map& map, const Tensor& y, real tolerance, int64_t max_iterations,
                    const IntTensor& counts) {
  const Shape rows{y.elements() / y.size(-1), 1, y.size(-1)};
  const Map by_rows = [&](const Tensor& x) { return map(x.reshaped(y.shape())).f.reshaped(rows); };
  const Solution solution = picard(by_rows, y.reshaped(rows),
                                   {.tolerance = tolerance,
                                    .max_iterations = max_iterations,
                                    .backwards = true,
                                    .shrink_after = 16});
  raise_to(counts, solution.iterations);
  return solution.y.reshaped(y.shape());
}

}  // namespace fprnn
