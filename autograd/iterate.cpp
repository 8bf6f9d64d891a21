#include <fprnn/autograd/iterate.h>
#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fprnn {

FPRNN_KERNEL(void row_residuals(const RowResiduals&, int64_t begin, int64_t end))
FPRNN_KERNEL(void damped_update(const DampedUpdate&, int64_t begin, int64_t end))

void run(Cpu cpu, const RowResiduals& args) {
  const auto kernel = FPRNN_SELECT(cpu, row_residuals);
  parallel_for(cpu, args.rows, grain_for(args.D),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}
void run(Cpu, const LargestOfRows& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    real most = 0;
    for (int64_t i = 0; i < args.n; ++i) most = larger_or_nan(args.x[row * args.n + i], most);
    args.largest[row] = most;
  }
}
void run(Cpu cpu, const DampedUpdate& args) {
  const auto kernel = FPRNN_SELECT(cpu, damped_update);
  parallel_for(cpu, args.rows, grain_for(args.D),
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void run(Cpu, const SettleSequences& args) {
  for (int64_t b = 0; b < args.B; ++b) {
    int32_t& settled = args.settled[b];
    if (settled == args.T) continue;
    const real* residual = args.residual + b * args.T;
    real most = 0;
    for (int64_t t = 0; t < args.T; ++t) most = larger_or_nan(residual[t], most);
    if (args.backwards)
      settled = most <= args.tolerance ? as_count(args.T) : 0;
    else
      while (settled < args.T && residual[settled] <= args.tolerance) ++settled;
    args.iterations[b] = args.iteration;
    if (most <= args.best[b] * static_cast<real>(0.9)) {
      args.best[b] = most;
      args.since[b] = 0;
    } else if (args.shrink_after > 0 && ++args.since[b] == args.shrink_after) {
      args.since[b] = 0;
      args.damping[b] = std::max(args.damping[b] / 2, static_cast<real>(1.0 / 64));
    }
    for (int64_t t = 0; t < args.T; ++t)
      args.step[b * args.T + t] = t < settled ? 0 : args.damping[b];
  }
}

void check_iterate(const Shape& shape) {
  require(shape.rank() == 3, "fixed_point", "y must be (B, T, D)", shape);
}

void check_limits(real tolerance, int64_t max_iterations) {
  require<ValueError>(tolerance >= 0 && std::isfinite(tolerance), "fixed_point",
                      "the tolerance must be finite and not negative", tolerance);
  require<ValueError>(max_iterations >= 1, "fixed_point",
                      "the cap on iterations must be at least 1", max_iterations);
}

Tensor residuals_of(const Evaluated<Tensor>& of, const Tensor& y) {
  const Shape positions = y.shape().without(-1);
  if (of.residual.defined()) {
    require(of.residual.shape() == positions, "fixed_point",
            "a residual that comes with f must be (B, T)", of.residual.shape(), y.shape());
    return of.residual;
  }
  const Tensor residual(y.context(), positions);
  launch(y.context(), RowResiduals{.f = of.f.data(),
                                   .y = y.data(),
                                   .residual = residual.data(),
                                   .rows = residual.elements(),
                                   .D = y.size(-1)});
  return residual;
}

Tensor largest_of_sequences(const Tensor& residuals) {
  const Tensor largest(residuals.context(), {residuals.size(0)});
  launch(residuals.context(), LargestOfRows{.x = residuals.data(),
                                            .largest = largest.data(),
                                            .rows = residuals.size(0),
                                            .n = residuals.size(1)});
  return largest;
}

Tensor largest_residuals(const Tensor& f, const Tensor& y) {
  return largest_of_sequences(residuals_of(f, y));
}

int32_t as_count(int64_t count) {
  return static_cast<int32_t>(std::min<int64_t>(count, INT32_MAX));
}

void Iterate::apply(const Map& f) {
  Evaluated<Tensor> of = f(y_);
  f_ = std::move(of.f);
  require(f_.shape() == y_.shape(), "fixed_point", "f must not change the shape of y", f_.shape(),
          y_.shape());
  residual_ = residuals_of({f_, std::move(of.residual)}, y_);
}

void Iterate::update(const Tensor& step) {
  if (!f_.unique()) f_ = clone(f_);
  launch(y_.context(),
         DampedUpdate{
             .y = y_.data(), .step = step.data(), .f = f_.data(), .rows = B * T, .D = y_.size(2)});
  y_ = std::move(f_);
  f_ = Tensor();
}

}  // namespace fprnn
