#include <fprnn/core/vector.h>
#include <fprnn/models/cells/mamba_forms.h>
#include <fprnn/models/cells/ssd.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>

namespace fprnn {

namespace {

struct SsdTrace : MambaTrace {
  SsdScanTrace scan;
};

// Memory for what the sweep is to leave, and where it lies.
std::shared_ptr<SsdTrace> make_trace(FpMambaSweep& sweep, const Tensor& y, const Tensor& state_out,
                                     const Var& previous) {
  const Context& context = y.context();
  const int64_t H = sweep.D / sweep.head;
  const auto made = std::make_shared<SsdTrace>();
  keep_trace(sweep, *made, y, previous);
  made->scan = {
      Tensor(context, {sweep.B, sweep.T, H, sweep.head}), state_out,
      Tensor(context, ssd_scan_checkpoints(context, sweep.B, sweep.T, H, sweep.head, sweep.N))};
  sweep.trace.scanned = made->scan.y.data();
  sweep.trace.checkpoints = made->scan.checkpoints.data();
  return made;
}

// On a GPU, and where all heads share b and c.
class SsdForms : public FusedForms {
 public:
  std::optional<FixedPointMap::Applied> apply(const FixedPointMap& map, const Var& y,
                                              const Past& past, const FixedPointInputs& in,
                                              const Trace* given) const override {
    const auto mixer = mixer_of(map, in);
    if (!mixer.has_value()) return std::nullopt;
    const auto& cell = static_cast<const SsdCell&>(map.cell);
    const SsdTrace none;
    const SsdTrace& trace = given != nullptr ? static_cast<const SsdTrace&>(*given) : none;
    const auto [mixed, b, c] =
        fp_mamba_mix({.projected = in.projected,
                      .projected_y = product_with(in.weight_y, y, trace.product),
                      .projected_previous = product_with(in.weight_y, past.y, trace.of_previous),
                      .x = in.x,
                      .y = y,
                      .mixer = *mixer,
                      .N = cell.options().states,
                      .bc_offset = in.projected.size(-1) - cell.raw_size(),
                      .bc_norm = cell.options().bc_norm,
                      .eps = cell.options().eps},
                     trace.mix);
    const Shape directions{y.size(0), y.size(1), 1, cell.options().states};
    const Vars at{in.signals[0], reshape(b, directions), reshape(c, directions),
                  in.weights[0], in.weights[1],          in.weights[2]};
    return applied(map, y, in, cell.scan(mixed, at, past.carry, trace.scan), trace);
  }

  std::optional<Swept> sweep(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                             const SweepRequest& to) const override {
    const auto mixer = mixer_of(map, in);
    const SsdOptions& options = static_cast<const SsdCell&>(map.cell).options();
    if (!mixer.has_value() || in.norm_bias.defined() || to.y.elements() == 0) return std::nullopt;
    const Context& context = to.y.context();
    const Var skip = of_channels(in.weights[1], options);
    FpMambaSweep sweep = sweep_of(past, in, to, map, *mixer, options.states, options.bc_norm);
    sweep.delta = in.signals[0].data();
    sweep.skip = skip.data();
    sweep.head = options.channels;
    if (!has_fused(context, sweep)) return std::nullopt;
    Swept swept = outputs_of(sweep, context, map.cell.carry_shape(sweep.B));
    if (to.traced) swept.trace = make_trace(sweep, to.y, swept.carry, past.y);
    launch_fused(context, sweep);
    return swept;
  }

  // With step sizes and decays of channels, as FP-Mamba has them.
  bool sweep_back(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                  const SweepBackRequest& to) const override {
    const auto mixer = mixer_of(map, in);
    const SsdOptions& options = static_cast<const SsdCell&>(map.cell).options();
    if (!mixer.has_value() || in.norm_bias.defined() || to.y.elements() == 0) return false;
    const Context& context = to.y.context();
    const int64_t B = to.y.size(0), T = to.y.size(1), D = to.y.size(2), N = options.states;
    const int64_t H = options.heads, P = options.channels;
    const Var skip = of_channels(in.weights[1], options);
    const Var a = reshape(broadcast_to(reshape(in.weights[0], {H, 1, 1}), {H, P, N}), {D, N});
    FpMambaAdjoint sweep = adjoint_of(past, in, to, map, *mixer, N, options.bc_norm);
    sweep.a = a.data();
    sweep.skip = skip.data();
    if (!has_fused(context, sweep)) return false;
    const Var p = projections_at(map, past, in, to);
    const FixedPointMap::Token at = map.token(p, in);
    const Var step = softplus(add(in.signals[0], in.weights[2]));
    const Var dt = reshape(broadcast_to(reshape(step, {B, T, H, 1}), {B, T, H, P}), {B, T, D}),
              mixed = map.mixed(at.q, in.x, to.y);
    sweep.p = p.data();
    sweep.dt = dt.data();
    sweep.mixed = mixed.data();
    sweep.b = at.cell[SsdCell::kB].data();
    launch_fused(context, sweep);
    return true;
  }

 private:
  static std::optional<SweepMixer> mixer_of(const FixedPointMap& map, const FixedPointInputs& in) {
    const SsdOptions& options = static_cast<const SsdCell&>(map.cell).options();
    if (in.x.context().device() == DeviceKind::cpu || options.groups != 1 ||
        options.eps != map.eps || !in.norm_weight.defined())
      return std::nullopt;
    return map.mixer.sweep();
  }
  // (H) or (H, P) -> (D).
  static Var of_channels(const Var& skip, const SsdOptions& options) {
    const int64_t H = options.heads, P = options.channels;
    if (skip.shape().rank() == 2) return reshape(skip, {H * P});
    return reshape(broadcast_to(reshape(skip, {H, 1}), {H, P}), {H * P});
  }
};

}  // namespace

const FusedForms* SsdCell::fused() const {
  static const SsdForms forms;
  return &forms;
}

}  // namespace fprnn
