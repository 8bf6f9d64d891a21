#include <fprnn/core/vector.h>
#include <fprnn/models/cells/fused.h>
#include <fprnn/models/cells/gated.h>
#include <fprnn/ops/fp_rnn_sweep.h>

namespace fprnn {

namespace {

class GatedForms : public FusedForms {
 public:
  std::optional<Swept> sweep(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                             const SweepRequest& to) const override {
    const auto mixer = map.mixer.sweep();
    const Tensor& y = to.y;
    if (!mixer.has_value() || !plain(in) || y.elements() == 0) return std::nullopt;
    const Context& context = y.context();
    FpRnnSweep sweep{.bx = in.x.data(),
                     .projected = in.projected.data(),
                     .lambda = in.signals[0].data(),
                     .weight_y = data_or_null(in.weight_y),
                     .previous = data_or_null(past.y),
                     .state = data_or_null(past.carry),
                     .y = y.data(),
                     .state_out = nullptr,
                     .iterations = nullptr,
                     .residual = nullptr,
                     .B = y.size(0),
                     .T = y.size(1),
                     .D = y.size(2),
                     .P = in.projected.size(-1),
                     .mixer = *mixer,
                     .eps = map.eps,
                     .tolerance = to.tolerance,
                     .max_iterations = to.max_iterations};
    if (!has_fused(context, sweep)) return std::nullopt;
    Swept swept{int_zeros(context, {sweep.B}), Tensor(context, {sweep.B}),
                Tensor(context, {sweep.B, sweep.D}), nullptr};
    sweep.state_out = swept.carry.data();
    sweep.iterations = swept.iterations.data();
    sweep.residual = swept.residual.data();
    launch_fused(context, sweep);
    return swept;
  }

  bool sweep_back(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                  const SweepBackRequest& to) const override {
    const auto mixer = map.mixer.sweep();
    const Tensor& y = to.y;
    if (!mixer.has_value() || !plain(in) || y.elements() == 0) return false;
    const Context& context = y.context();
    FpRnnAdjoint sweep{.bx = in.x.data(),
                       .y = y.data(),
                       .p = nullptr,
                       .lambda = in.signals[0].data(),
                       .weight_y = data_or_null(in.weight_y),
                       .v = to.v.data(),
                       .iterations = to.iterations.data(),
                       .B = y.size(0),
                       .T = y.size(1),
                       .D = y.size(2),
                       .P = in.projected.size(-1),
                       .mixer = *mixer,
                       .eps = map.eps,
                       .tolerance = to.rule.tolerance,
                       .max_iterations = to.rule.max_iterations};
    if (!has_fused(context, sweep)) return false;
    const Var p = map.raw(y, past, in);
    sweep.p = p.data();
    launch_fused(context, sweep);
    return true;
  }

 private:
  // These kernels know neither norm nor gate.
  static bool plain(const FixedPointInputs& in) {
    return !in.norm_weight.defined() && !in.gate.defined();
  }
};

}  // namespace

const FusedForms* GatedCell::fused() const {
  static const GatedForms forms;
  return &forms;
}

}  // namespace fprnn
