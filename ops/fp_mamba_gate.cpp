#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/layout.h>

namespace fprnn {

Var fp_mamba_gate(const Var& z, const Var& from_y, const Var& from_previous, const Var& y) {
  const std::string_view op = "fp_mamba_gate";
  require(z.shape().rank() == 3 && from_y.shape() == z.shape() && y.shape() == z.shape(), op,
          "z, from_y and y must be (B, T, D), the same shape", z.shape(), from_y.shape(),
          y.shape());
  require(!from_previous.defined() || from_previous.shape() == z.shape().without(1), op,
          "from_previous must be (B, D)", from_previous.shape(), z.shape());
  require_together(op, z, from_y, from_previous, y);
  FpMambaGateForward forward{.z = z.data(),
                             .from_y = from_y.data(),
                             .from_previous = data_or_null(from_previous),
                             .y = y.data(),
                             .out = nullptr,
                             .B = z.size(0),
                             .T = z.size(1),
                             .D = z.size(2)};
  const Context& context = z.context();
  if (!has_fused(context, forward)) return mul(silu(add(z, shift(from_y, from_previous))), y);
  const Tensor out(context, z.shape());
  forward.out = out.data();
  launch_fused(context, forward);
  return record(op, {z, from_y, from_previous, y}, out,
                [forward, z = z.value(), from_y = from_y.value(),
                 from_previous = from_previous.value(), y = y.value()](Backward& back) {
                  const Context& context = z.context();
                  const Tensor dz(context, z.shape()), dfrom_y(context, z.shape());
                  const Tensor dy(context, z.shape());
                  const Tensor dfrom_previous =
                      back.wants(2) ? Tensor(context, from_previous.shape()) : Tensor();
                  launch_fused(context,
                               FpMambaGateBackward{.forward = forward,
                                                   .dout = back.output().data(),
                                                   .dz = dz.data(),
                                                   .dfrom_y = dfrom_y.data(),
                                                   .dfrom_previous = dfrom_previous.defined()
                                                                         ? dfrom_previous.data()
                                                                         : nullptr,
                                                   .dy = dy.data()});
                  back.give(0, dz);
                  back.give(1, dfrom_y);
                  if (dfrom_previous.defined()) back.give(2, dfrom_previous);
                  back.give(3, dy);
                });
}

}  // namespace fprnn
