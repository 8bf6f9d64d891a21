#include <fprnn/core/vector.h>
#include <fprnn/models/cells/delta.h>
#include <fprnn/models/cells/fused.h>
#include <fprnn/ops/fp_delta_sweep.h>

namespace fprnn {

namespace {

// Of layers whose norm is RMS.
class DeltaForms : public FusedForms {
 public:
  std::optional<Swept> sweep(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                             const SweepRequest& to) const override {
    const auto mixer = mixer_of(map, in, to.y);
    if (!mixer.has_value()) return std::nullopt;
    const Context& context = to.y.context();
    const DeltaOptions& of = options_of(map);
    const int64_t B = to.y.size(0);
    FpDeltaSweep sweep{.x = in.x.data(),
                       .projected = in.projected.data(),
                       .beta = in.signals[0].data(),
                       .g = data_or_null(in.signals[1]),
                       .z = data_or_null(in.gate),
                       .weight_y = data_or_null(in.weight_y),
                       .norm_weight = in.norm_weight.data(),
                       .previous = data_or_null(past.y),
                       .state = data_or_null(past.carry),
                       .y = to.y.data(),
                       .state_out = nullptr,
                       .iterations = nullptr,
                       .residual = nullptr,
                       .B = B,
                       .T = to.y.size(1),
                       .H = of.heads,
                       .K = of.keys,
                       .V = of.channels,
                       .D = to.y.size(2),
                       .P = in.projected.size(-1),
                       .mixer = *mixer,
                       .state_wanted = to.carry_wanted,
                       .eps = map.eps,
                       .tolerance = to.tolerance,
                       .max_iterations = to.max_iterations};
    if (!has_fused(context, sweep)) return std::nullopt;
    Swept swept{int_zeros(context, {B}), Tensor(context, {B}),
                Tensor(context, map.cell.carry_shape(B)), nullptr};
    sweep.state_out = swept.carry.data();
    sweep.iterations = swept.iterations.data();
    sweep.residual = swept.residual.data();
    launch_fused(context, sweep);
    return swept;
  }

  bool sweep_back(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                  const SweepBackRequest& to) const override {
    const auto mixer = mixer_of(map, in, to.y);
    if (!mixer.has_value()) return false;
    const DeltaOptions& of = options_of(map);
    FpDeltaAdjoint sweep{.x = in.x.data(),
                         .y = to.y.data(),
                         .p = nullptr,
                         .mixed = nullptr,
                         .k = nullptr,
                         .beta = in.signals[0].data(),
                         .g = data_or_null(in.signals[1]),
                         .z = data_or_null(in.gate),
                         .weight_y = data_or_null(in.weight_y),
                         .norm_weight = in.norm_weight.data(),
                         .state = data_or_null(past.carry),
                         .v = to.v.data(),
                         .iterations = to.iterations.data(),
                         .B = to.y.size(0),
                         .T = to.y.size(1),
                         .H = of.heads,
                         .K = of.keys,
                         .V = of.channels,
                         .D = to.y.size(2),
                         .P = in.projected.size(-1),
                         .mixer = *mixer,
                         .eps = map.eps,
                         .tolerance = to.rule.tolerance,
                         .max_iterations = to.rule.max_iterations};
    if (!has_fused(to.y.context(), sweep)) return false;
    const Var p = map.raw(to.y, past, in);
    const FixedPointMap::Token at = map.token(p, in);
    const Var mixed = map.mixed(at.q, in.x, to.y);
    sweep.p = p.data();
    sweep.mixed = mixed.data();
    sweep.k = at.cell[DeltaCell::kKey].data();
    launch_fused(to.y.context(), sweep);
    return true;
  }

 private:
  static const DeltaOptions& options_of(const FixedPointMap& map) {
    return static_cast<const DeltaCell&>(map.cell).options();
  }
  static std::optional<SweepMixer> mixer_of(const FixedPointMap& map, const FixedPointInputs& in,
                                            const Tensor& y) {
    if (y.elements() == 0 || in.norm_bias.defined() || !in.norm_weight.defined() ||
        options_of(map).eps != map.eps)
      return std::nullopt;
    return map.mixer.sweep();
  }
};

}  // namespace

const FusedForms* DeltaCell::fused() const {
  static const DeltaForms forms;
  return &forms;
}

}  // namespace fprnn
