#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_gate.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/op.h>

namespace fprnn {

Var fp_mamba_gate(const Var& z, const Var& projected_y, const Var& projected_previous,
                  const Var& y) {
  const std::string_view op = "fp_mamba_gate";
  require(z.shape().rank() == 3 && projected_y.shape() == z.shape() && y.shape() == z.shape(), op,
          "z, projected_y and y must be (B, T, D), the same shape", z.shape(), projected_y.shape(),
          y.shape());
  require(fits(projected_previous, z.shape().without(1)), op, "projected_previous must be (B, D)",
          projected_previous.shape(), z.shape());
  require_together(op, z, projected_y, projected_previous, y);
  FpMambaGateForward forward{.z = z.data(),
                             .projected_y = projected_y.data(),
                             .projected_previous = data_or_null(projected_previous),
                             .y = y.data(),
                             .B = z.size(0),
                             .T = z.size(1),
                             .D = z.size(2)};
  const Context& context = z.context();
  if (!has_fused(context, forward))
    return mul(silu(add(z, shift(projected_y, projected_previous))), y);
  const Tensor out(context, z.shape());
  forward.out = out.data();
  launch_fused(context, forward);
  return record(op, {z, projected_y, projected_previous, y}, out,
                [forward, z, projected_y, projected_previous, y](Backward& back) {
                  const Tensor dz = like(z), dprojected_y = like(projected_y), dy = like(y);
                  const Tensor dprojected_previous = wanted_like(back, 2, projected_previous);
                  launch_fused(
                      z.context(),
                      FpMambaGateBackward{.forward = forward,
                                          .dout = back.output().data(),
                                          .dz = dz.data(),
                                          .dprojected_y = dprojected_y.data(),
                                          .dprojected_previous = data_or_null(dprojected_previous),
                                          .dy = dy.data()});
                  give_all(back, {dz, dprojected_y, dprojected_previous, dy});
                });
}

}  // namespace fprnn
