#include <fprnn/core/vector.h>
#include <fprnn/models/cells/mamba_forms.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>

namespace fprnn {

Var product_with(const Var& weight, const Var& y, const Tensor& saved) {
  if (!y.defined() || !weight.defined()) return {};
  return linear(y, weight, {}, saved);
}

FixedPointMap::Applied applied(const FixedPointMap& map, const Var& y, const FixedPointInputs& in,
                               const Cell::Scanned& scanned, const MambaTrace& trace) {
  if (y.differentiable())
    return {gated_norm(scanned.v, in.gate, in.norm_weight, in.norm_bias, map.eps, trace.norm),
            scanned.carry};
  const auto [f, residual] =
      gated_norm_beside(y.value(), scanned.v, in.gate, in.norm_weight, in.norm_bias, map.eps);
  return {f, scanned.carry, residual};
}

FpMambaSweep sweep_of(const Past& past, const FixedPointInputs& in, const SweepRequest& to,
                      const FixedPointMap& map, const SweepMixer& mixer, int64_t N, bool bc_norm) {
  const Tensor& y = to.y;
  return {.x = in.x.data(),
          .projected = in.projected.data(),
          .delta = nullptr,
          .z = data_or_null(in.gate),
          .keep = nullptr,
          .weight_y = data_or_null(in.weight_y),
          .a = in.weights[0].data(),
          .skip = in.weights[1].data(),
          .delta_bias = in.weights[2].data(),
          .norm_weight = in.norm_weight.data(),
          .norm_bias = data_or_null(in.norm_bias),
          .previous = data_or_null(past.y),
          .state = data_or_null(past.carry),
          .y = y.data(),
          .state_out = nullptr,
          .iterations = nullptr,
          .residual = nullptr,
          .trace = {},
          .B = y.size(0),
          .T = y.size(1),
          .D = y.size(2),
          .N = N,
          .P = in.projected.size(-1),
          .mixer = mixer,
          .bc_norm = bc_norm,
          .state_wanted = to.carry_wanted,
          .eps = map.eps,
          .tolerance = to.tolerance,
          .max_iterations = to.max_iterations};
}

Swept outputs_of(FpMambaSweep& sweep, const Context& context, const Shape& carry) {
  Swept swept{int_zeros(context, {sweep.B}), Tensor(context, {sweep.B}), Tensor(context, carry),
              nullptr};
  sweep.state_out = swept.carry.data();
  sweep.iterations = swept.iterations.data();
  sweep.residual = swept.residual.data();
  return swept;
}

void keep_trace(FpMambaSweep& sweep, MambaTrace& trace, const Tensor& y, const Var& previous) {
  const Context& context = y.context();
  const Shape directions{sweep.B, sweep.T, sweep.N};
  const auto product_of = [&](const Tensor& v) {
    return Tensor(context, v.shape().with(-1, sweep.P));
  };
  if (sweep.weight_y != nullptr) {
    trace.product = product_of(y);
    if (previous.defined()) trace.of_previous = product_of(previous.value());
  }
  trace.mix = {Tensor(context, y.shape()), Tensor(context, directions),
               Tensor(context, directions)};
  trace.norm = {y, Tensor(context, {sweep.B, sweep.T, 2})};
  const auto place = [](const Tensor& x) { return x.defined() ? x.data() : nullptr; };
  sweep.trace.product = place(trace.product);
  sweep.trace.of_previous = place(trace.of_previous);
  sweep.trace.mixed = trace.mix.mixed.data();
  sweep.trace.b = trace.mix.b.data();
  sweep.trace.c = trace.mix.c.data();
  sweep.trace.statistics = trace.norm.statistics.data();
}

FpMambaAdjoint adjoint_of(const Past& past, const FixedPointInputs& in, const SweepBackRequest& to,
                          const FixedPointMap& map, const SweepMixer& mixer, int64_t N,
                          bool bc_norm) {
  const Tensor& y = to.y;
  return {.x = in.x.data(),
          .y = y.data(),
          .p = nullptr,
          .dt = nullptr,
          .mixed = nullptr,
          .b = nullptr,
          .z = data_or_null(in.gate),
          .keep = nullptr,
          .weight_y = data_or_null(in.weight_y),
          .a = in.weights[0].data(),
          .skip = in.weights[1].data(),
          .norm_weight = in.norm_weight.data(),
          .norm_bias = data_or_null(in.norm_bias),
          .state = data_or_null(past.carry),
          .v = to.v.data(),
          .iterations = to.iterations.data(),
          .B = y.size(0),
          .T = y.size(1),
          .D = y.size(2),
          .N = N,
          .P = in.projected.size(-1),
          .mixer = mixer,
          .bc_norm = bc_norm,
          .eps = map.eps,
          .tolerance = to.rule.tolerance,
          .max_iterations = to.rule.max_iterations};
}

Var projections_at(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                   const SweepBackRequest& to) {
  const auto* trace = static_cast<const MambaTrace*>(to.trace);
  return trace != nullptr && trace->product.defined()
             ? add(in.projected, shift(trace->product, trace->of_previous))
             : map.raw(to.y, past, in);
}

}  // namespace fprnn
