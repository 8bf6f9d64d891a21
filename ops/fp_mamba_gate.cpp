#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/op.h>

namespace fprnn {

Var fp_mamba_gate(const Var& z, const Var& from_y, const Var& from_previous, const Var& y) {
  const std::string_view op = "fp_mamba_gate";
  require(z.shape().rank() == 3 && from_y.shape() == z.shape() && y.shape() == z.shape(), op,
          "z, from_y and y must be (B, T, D), the same shape", z.shape(), from_y.shape(),
          y.shape());
  require(fits(from_previous, z.shape().without(1)), op, "from_previous must be (B, D)",
          from_previous.shape(), z.shape());
  require_together(op, z, from_y, from_previous, y);
  FpMambaGateForward forward{.z = z.data(),
                             .from_y = from_y.data(),
                             .from_previous = data_or_null(from_previous),
                             .y = y.data(),
                             .B = z.size(0),
                             .T = z.size(1),
                             .D = z.size(2)};
  const Context& context = z.context();
  if (!has_fused(context, forward)) return mul(silu(add(z, shift(from_y, from_previous))), y);
  const Tensor out(context, z.shape());
  forward.out = out.data();
  launch_fused(context, forward);
  return record(op, {z, from_y, from_previous, y}, out, [=](Backward& back) {
    const Tensor dz = like(z), dfrom_y = like(z), dy = like(z);
    const Tensor dfrom_previous = wanted_like(back, 2, from_previous);
    launch_fused(z.context(), FpMambaGateBackward{.forward = forward,
                                                  .dout = back.output().data(),
                                                  .dz = dz.data(),
                                                  .dfrom_y = dfrom_y.data(),
                                                  .dfrom_previous = data_or_null(dfrom_previous),
                                                  .dy = dy.data()});
    give_all(back, {dz, dfrom_y, dfrom_previous, dy});
  });
}

}  // namespace fprnn
