// An op as a project that links the library adds it: a contract of its own, which runs on the CPU alone, and the
// gradient. Nothing of the library changes for it.
#include <doctest/doctest.h>
#include <fprnn/autograd/tape.h>
#include <fprnn/core/parallel.h>

#include "context.h"
#include "needs.h"
#include "refused.h"

namespace somebody {

using fprnn::real, fprnn::Tensor, fprnn::Var;

// y = x, or x times `slope` where at < 0.
struct Leak {
  static constexpr std::string_view kCpuOnly = "leaky_relu";
  const real *at, *x;  // (count)
  real* y;             // (count)
  int64_t count;
  real slope;
};

void run(fprnn::Cpu cpu, const Leak& args) {
  fprnn::parallel_for(cpu, args.count, fprnn::kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      args.y[i] = args.at[i] < 0 ? args.slope * args.x[i] : args.x[i];
  });
}

Tensor leak(const Tensor& at, const Tensor& x, real slope) {
  Tensor y(x.context(), x.shape());
  launch(
      x.context(),
      Leak{.at = at.data(), .x = x.data(), .y = y.data(), .count = x.elements(), .slope = slope});
  return y;
}

Var leaky_relu(const Var& x, real slope) {
  return record("leaky_relu", {x}, leak(x.value(), x.value(), slope),
                [x = x.value(), slope](fprnn::Backward& back) {
                  back.accumulate(0, leak(x, back.output(), slope));
                });
}

}  // namespace somebody

namespace fprnn::tests {

TEST_CASE("own op: it has a value and a gradient") {
  const Context context = host_context();
  Tape tape(context);
  const std::vector<real> numbers{-2, 0, 3};
  const Var x = tape.variable(Tensor(context, {3}, numbers));
  const Var y = somebody::leaky_relu(x, real(0.5));
  CHECK(y.value().to_vector() == std::vector<real>{-1, 0, 3});
  CHECK(tape.vjp({y}, {Tensor(context, {3}, numbers)}, {x})[0].to_vector() ==
        std::vector<real>{-1, 0, 3});
}

TEST_CASE("own op: of the CPU alone, it names itself on a GPU" * needs_gpu()) {
  check_refused<DeviceError>("[leaky_relu] runs on the CPU alone", [] {
    somebody::leaky_relu(Tensor(test_context(), {3}, std::vector<real>{-2, 0, 3}), real(0.5));
  });
}

}  // namespace fprnn::tests
