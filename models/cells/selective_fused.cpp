#include <fprnn/core/vector.h>
#include <fprnn/models/cells/mamba_forms.h>
#include <fprnn/models/cells/selective.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

namespace {

struct SelectiveTrace : MambaTrace {
  SelectiveScanTrace scan;
};

const SelectiveOptions& options_of(const FixedPointMap& map) {
  return static_cast<const SelectiveCell&>(map.cell).options();
}

// Memory for what the sweep is to leave, and where it lies.
std::shared_ptr<SelectiveTrace> make_trace(FpMambaSweep& sweep, const Tensor& y,
                                           const Tensor& state_out, const Var& previous) {
  const Context& context = y.context();
  const auto made = std::make_shared<SelectiveTrace>();
  keep_trace(sweep, *made, y, previous);
  made->scan = {
      Tensor(context, y.shape()), state_out,
      Tensor(context, selective_scan_checkpoints(context, sweep.B, sweep.T, sweep.D, sweep.N))};
  sweep.trace.scanned = made->scan.y.data();
  sweep.trace.checkpoints = made->scan.checkpoints.data();
  return made;
}

class SelectiveForms : public FusedForms {
 public:
  std::optional<FixedPointMap::Applied> apply(const FixedPointMap& map, const Var& y,
                                              const Past& past, const FixedPointInputs& in,
                                              const Trace* given) const override {
    const auto mixer = map.mixer.sweep();
    if (!mixer.has_value() || !in.norm_weight.defined()) return std::nullopt;
    const auto& cell = static_cast<const SelectiveCell&>(map.cell);
    const SelectiveTrace none;
    const SelectiveTrace& trace =
        given != nullptr ? static_cast<const SelectiveTrace&>(*given) : none;
    Var p = in.projected, projected_y = product_with(in.weight_y, y, trace.product),
        projected_previous = product_with(in.weight_y, past.y, trace.of_previous);
    if (projected_y.defined() && cell.options().step_numbers > 0) {  // delta needs all of p
      p = add(p, shift(projected_y, projected_previous));
      projected_y = projected_previous = Var();
    }
    const auto [mixed, b, c] = fp_mamba_mix({.projected = p,
                                             .projected_y = projected_y,
                                             .projected_previous = projected_previous,
                                             .x = in.x,
                                             .y = y,
                                             .mixer = *mixer,
                                             .N = cell.options().states,
                                             .bc_offset = p.size(-1) - cell.raw_size(),
                                             .bc_norm = cell.options().bc_norm,
                                             .eps = cell.options().eps},
                                            trace.mix);
    const Vars at = SelectiveCell::token_of(cell.delta_of(p, in.signals, in.weights), b, c,
                                            in.signals, in.weights);
    return applied(map, y, in, cell.scan(mixed, at, past.carry, trace.scan), trace);
  }

  std::optional<Swept> sweep(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                             const SweepRequest& to) const override {
    const Tensor& y = to.y;
    const auto mixer = map.mixer.sweep();
    const SelectiveOptions& options = options_of(map);
    if (!mixer.has_value() || options.step_numbers > 0 || !in.norm_bias.defined() ||
        y.elements() == 0)
      return std::nullopt;
    const Context& context = y.context();
    FpMambaSweep sweep = sweep_of(past, in, to, map, *mixer, options.states, options.bc_norm);
    sweep.delta = in.signals[0].data();
    sweep.keep = data_or_null(in.signals[1]);
    if (!has_fused(context, sweep)) return std::nullopt;
    Swept swept = outputs_of(sweep, context, map.cell.carry_shape(sweep.B));
    if (to.traced) swept.trace = make_trace(sweep, y, swept.carry, past.y);
    launch_fused(context, sweep);
    return swept;
  }

  bool sweep_back(const FixedPointMap& map, const Past& past, const FixedPointInputs& in,
                  const SweepBackRequest& to) const override {
    const auto mixer = map.mixer.sweep();
    const SelectiveOptions& options = options_of(map);
    const Tensor& y = to.y;
    if (!mixer.has_value() || options.step_numbers > 0 || !in.norm_bias.defined() ||
        y.elements() == 0)
      return false;
    const Context& context = y.context();
    FpMambaAdjoint sweep = adjoint_of(past, in, to, map, *mixer, options.states, options.bc_norm);
    sweep.keep = data_or_null(in.signals[1]);
    if (!has_fused(context, sweep)) return false;
    const Var p = projections_at(map, past, in, to);
    const FixedPointMap::Token at = map.token(p, in);
    const Var dt = softplus(add(in.signals[0], in.weights[2])), mixed = map.mixed(at.q, in.x, y);
    sweep.p = p.data();
    sweep.dt = dt.data();
    sweep.mixed = mixed.data();
    sweep.b = at.cell[SelectiveCell::kB].data();
    launch_fused(context, sweep);
    return true;
  }
};

}  // namespace

const FusedForms* SelectiveCell::fused() const {
  static const SelectiveForms forms;
  return &forms;
}

}  // namespace fprnn
