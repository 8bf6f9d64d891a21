#include "leaky_relu.h"

#include <fprnn/core/parallel.h>

namespace extending {

using namespace fprnn;

// y = x where at >= 0, else slope x: the op with at = x, and its gradient with x = dy.
struct Leak {
  static constexpr std::string_view kCpuOnly = "leaky_relu";
  const real *at, *x;  // (count)
  real* y;             // (count)
  int64_t count;
  real slope;
};

void run(Cpu cpu, const Leak& args) {
  parallel_for(cpu, args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      args.y[i] = args.at[i] < 0 ? args.slope * args.x[i] : args.x[i];
  });
}

Tensor leak(const Tensor& at, const Tensor& x, real slope) {
  Tensor y(x.context(), x.shape());
  launch(x.context(), Leak{at.data(), x.data(), y.data(), x.elements(), slope});
  return y;
}

Var leaky_relu(const Var& x, real slope) {
  const Tensor at = x.value();
  return record("leaky_relu", {x}, leak(at, at, slope), [at, slope](Backward& back) {
    back.accumulate(0, leak(at, back.output(), slope));
  });
}

}  // namespace extending
