#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/op.h>

namespace fprnn {

namespace {

// y and what a kernel leaves besides are not yet there.
GatedNormForward contract_of(const Var& x, const Var& z, const Var& weight, const Var& bias,
                             real eps) {
  const std::string_view op = "gated_norm";
  require(x.shape().rank() >= 1, op, "x must have a last axis to normalise", x.shape());
  require(fits(z, x.shape()), op, "z must have x's shape", z.shape(), x.shape());
  const int64_t D = x.size(-1);
  require(weight.shape() == Shape{D} && fits(bias, Shape{D}), op,
          "weight and bias must have the size of x's last axis", weight.shape(), bias.shape(),
          x.shape());
  require<ValueError>(eps >= 0, op, "eps must not be negative", eps);
  require_together(op, x, z, weight, bias);
  return {.x = x.data(),
          .z = data_or_null(z),
          .weight = weight.data(),
          .bias = data_or_null(bias),
          .rows = x.shape().elements_before(-1),
          .D = D,
          .eps = eps};
}

Var by_parts(const Var& x, const Var& z, const Var& weight, const Var& bias, real eps) {
  return any_norm(z.defined() ? mul(x, silu(z)) : x, weight, bias, eps);
}

}  // namespace

Var gated_norm(const Var& x, const Var& z, const Var& weight, const Var& bias, real eps,
               const GatedNormTrace& trace) {
  GatedNormForward forward = contract_of(x, z, weight, bias, eps);
  require(all_or_none({{trace.y, x.shape()}, {trace.statistics, x.shape().with(-1, 2)}}),
          "gated_norm", "a trace must be y of x's shape and statistics (..., 2), both or none",
          x.shape());
  require_together("gated_norm", x, trace.y, trace.statistics);
  const Context& context = x.context();
  if (!has_fused(context, forward)) return by_parts(x, z, weight, bias, eps);
  GatedNormTrace made = trace;
  if (!made.y.defined()) {
    made = {Tensor(context, x.shape()), Tensor(context, x.shape().with(-1, 2))};
    forward.y = made.y.data();
    forward.statistics = made.statistics.data();
    launch_fused(context, forward);
  }
  return record("gated_norm", {x, z, weight, bias}, made.y,
                [forward, x, z, weight, centred = bias.defined(),
                 statistics = made.statistics](Backward& back) {
                  const bool parameters = back.wants(2) || back.wants(3);
                  const Tensor dx = like(x), dz = wanted_like(back, 1, z);
                  const Tensor dweight = parameters ? like(weight) : Tensor();
                  const Tensor dbias = parameters && centred ? like(weight) : Tensor();
                  GatedNormBackward backward{forward};
                  backward.statistics = statistics.data();
                  backward.dy = back.output().data();
                  backward.dx = dx.data();
                  backward.dz = data_or_null(dz);
                  backward.dweight = data_or_null(dweight);
                  backward.dbias = data_or_null(dbias);
                  launch_fused(x.context(), backward);
                  give_all(back, {dx, dz, dweight, dbias});
                });
}

GatedNormBeside gated_norm_beside(const Tensor& before, const Var& x, const Var& z,
                                  const Var& weight, const Var& bias, real eps) {
  GatedNormForward forward = contract_of(x, z, weight, bias, eps);
  require(before.shape() == x.shape(), "gated_norm", "y before must have x's shape", before.shape(),
          x.shape());
  require_together("gated_norm", x, before);
  for (const Var& input : {x, z, weight, bias})
    require<UsageError>(!input.differentiable(), "gated_norm",
                        "what is compared with y before is not recorded");
  const Context& context = x.context();
  if (!has_fused(context, forward)) return {by_parts(x, z, weight, bias, eps), {}};
  const Tensor y(context, x.shape()), residual(context, x.shape().without(-1));
  forward.y = y.data();
  forward.before = before.data();
  forward.residual = residual.data();
  launch_fused(context, forward);
  return {y, residual};
}

}  // namespace fprnn
