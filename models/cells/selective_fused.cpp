#include <fprnn/core/vector.h>
#include <fprnn/models/cells/fused.h>
#include <fprnn/models/cells/selective.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/fp_mamba_mix.h>
#include <fprnn/ops/fp_mamba_sweep.h>
#include <fprnn/ops/gated_norm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/linear.h>
#include <fprnn/ops/selective_scan.h>

namespace fprnn {

namespace {

// All that f makes of its solution y, and the products with W of y and of what came before it, if
// there is any.
struct SelectiveTrace : Trace {
  Tensor product;      // (B, T, P), but the last step's is not written
  Tensor of_previous;  // (B, P)
  FpMambaMixTrace mix;
  SelectiveScanTrace scan;
  GatedNormTrace norm;
};

const SelectiveOptions& options_of(const FixedPointMap& map) {
  return static_cast<const SelectiveCell&>(map.cell).options();
}

Var product_with(const Var& weight, const Var& y, const Tensor& saved) {
  if (!y.defined() || !weight.defined()) return {};
  return linear(y, weight, {}, saved);
}

// Memory for what the sweep is to leave, and where it lies.
std::shared_ptr<SelectiveTrace> make_trace(FpMambaSweep& sweep, const Tensor& y,
                                           const Tensor& state_out, const Var& previous) {
  const Context& context = y.context();
  const int64_t B = sweep.B, T = sweep.T, D = sweep.D, N = sweep.N;
  const auto made = std::make_shared<SelectiveTrace>();
  const auto product_of = [&](const Tensor& v) {
    return Tensor(context, v.shape().with(-1, sweep.P));
  };
  if (sweep.weight_y != nullptr) {
    made->product = product_of(y);
    if (previous.defined()) made->of_previous = product_of(previous.value());
  }
  made->mix = {Tensor(context, y.shape()), Tensor(context, {B, T, N}), Tensor(context, {B, T, N})};
  made->scan = {Tensor(context, y.shape()), state_out,
                Tensor(context, selective_scan_checkpoints(context, B, T, D, N))};
  made->norm = {y, Tensor(context, {B, T, 2})};
  const auto place = [](const Tensor& x) { return x.defined() ? x.data() : nullptr; };
  sweep.trace = {.product = place(made->product),
                 .of_previous = place(made->of_previous),
                 .mixed = made->mix.mixed.data(),
                 .b = made->mix.b.data(),
                 .c = made->mix.c.data(),
                 .scanned = made->scan.y.data(),
                 .checkpoints = made->scan.checkpoints.data(),
                 .statistics = made->norm.statistics.data()};
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
    const auto [v, carry] = cell.scan(mixed, at, past.carry, trace.scan);
    if (y.differentiable())
      return {{gated_norm(v, in.gate, in.norm_weight, in.norm_bias, map.eps, trace.norm), carry}};
    const auto [f, residual] =
        gated_norm_beside(y.value(), v, in.gate, in.norm_weight, in.norm_bias, map.eps);
    return {{f, carry, residual}};
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
    FpMambaSweep sweep{.x = in.x.data(),
                       .projected = in.projected.data(),
                       .delta = in.signals[0].data(),
                       .z = data_or_null(in.gate),
                       .keep = data_or_null(in.signals[1]),
                       .weight_y = data_or_null(in.weight_y),
                       .a = in.weights[0].data(),
                       .skip = in.weights[1].data(),
                       .delta_bias = in.weights[2].data(),
                       .norm_weight = in.norm_weight.data(),
                       .norm_bias = in.norm_bias.data(),
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
                       .N = options.states,
                       .P = in.projected.size(-1),
                       .mixer = *mixer,
                       .bc_norm = options.bc_norm,
                       .state_wanted = to.carry_wanted,
                       .eps = map.eps,
                       .tolerance = to.tolerance,
                       .max_iterations = to.max_iterations};
    if (!has_fused(context, sweep)) return std::nullopt;
    Swept swept{int_zeros(context, {sweep.B}), Tensor(context, {sweep.B}),
                Tensor(context, {sweep.B, sweep.D, sweep.N}), nullptr};
    sweep.state_out = swept.carry.data();
    sweep.iterations = swept.iterations.data();
    sweep.residual = swept.residual.data();
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
    FpMambaAdjoint sweep{.x = in.x.data(),
                         .y = y.data(),
                         .p = nullptr,
                         .dt = nullptr,
                         .mixed = nullptr,
                         .b = nullptr,
                         .z = data_or_null(in.gate),
                         .keep = data_or_null(in.signals[1]),
                         .weight_y = data_or_null(in.weight_y),
                         .a = in.weights[0].data(),
                         .skip = in.weights[1].data(),
                         .norm_weight = in.norm_weight.data(),
                         .norm_bias = in.norm_bias.data(),
                         .state = data_or_null(past.carry),
                         .v = to.v.data(),
                         .iterations = to.iterations.data(),
                         .B = y.size(0),
                         .T = y.size(1),
                         .D = y.size(2),
                         .N = options.states,
                         .P = in.projected.size(-1),
                         .mixer = *mixer,
                         .bc_norm = options.bc_norm,
                         .eps = map.eps,
                         .tolerance = to.rule.tolerance,
                         .max_iterations = to.rule.max_iterations};
    if (!has_fused(context, sweep)) return false;
    // With the products of the sweep that found y, as f was recorded.
    const auto* trace = static_cast<const SelectiveTrace*>(to.trace);
    const Var p = trace != nullptr && trace->product.defined()
                      ? add(in.projected, shift(trace->product, trace->of_previous))
                      : map.raw(y, past, in);
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
