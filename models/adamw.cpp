#include <fprnn/core/isa.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>

#include <cmath>
#include <numbers>

namespace fprnn {

FPRNN_KERNEL(void adamw_update(const AdamWUpdate&, int64_t begin, int64_t end))

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options)
    : options_(options) {
  const auto& [beta1, beta2, eps, weight_decay] = options;
  require<ValueError>(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "adamw",
                      "betas must be in [0, 1)", beta1, beta2);
  require<ValueError>(eps > 0 && weight_decay >= 0, "adamw",
                      "eps must be positive and weight_decay not negative", eps, weight_decay);
  for (const auto& [path, parameter] : parameters) {
    const Tensor& value = parameter->value;
    slots_.push_back({path, parameter, zeros(value.context(), value.shape()),
                      zeros(value.context(), value.shape())});
  }
}

double AdamW::gradient_norm() const {
  double total = 0;
  for (const Slot& slot : slots_)
    if (slot.parameter->gradient.defined()) total += sum_of_squares(slot.parameter->gradient);
  return std::sqrt(total);
}

double AdamW::clip_factor(double norm, double clip) { return std::min(1.0, clip / (norm + 1e-6)); }

void AdamW::step(double lr, double gradient_scale) {
  ++steps_;
  const double correction1 = 1 - std::pow(options_.beta1, steps_);
  const double correction2 = 1 - std::pow(options_.beta2, steps_);
  for (const auto& [path, parameter, mean, variance] : slots_) {
    if (!parameter->gradient.defined()) continue;
    const double decay = parameter->decays ? options_.weight_decay : 0;
    launch(mean.context(),
           AdamWUpdate{.value = parameter->value.data(),
                       .mean = mean.data(),
                       .variance = variance.data(),
                       .gradient = parameter->gradient.data(),
                       .count = mean.elements(),
                       .gradient_scale = static_cast<real>(gradient_scale),
                       .beta1 = static_cast<real>(options_.beta1),
                       .beta2 = static_cast<real>(options_.beta2),
                       .shrink = static_cast<real>(1 - lr * decay),
                       .step_size = static_cast<real>(lr / correction1),
                       .variance_correction = static_cast<real>(1 / std::sqrt(correction2)),
                       .eps = static_cast<real>(options_.eps)});
    parameter->gradient = Tensor();
  }
}

AdamWState AdamW::state() const {
  AdamWState state{.steps = steps_};
  for (const auto& [path, parameter, mean, variance] : slots_)
    state.moments.push_back({path, mean, variance});
  return state;
}

void AdamW::restore(const AdamWState& state) {
  require<ValueError>(state.steps >= 0 && state.steps <= kMaxSteps, "adamw",
                      "steps must be in [0, 2^53]", state.steps);
  require<ValueError>(state.moments.size() == slots_.size(), "adamw",
                      "a state must have the optimiser's parameters", state.moments.size(),
                      slots_.size());
  for (size_t i = 0; i < slots_.size(); ++i) {
    const auto& [path, mean, variance] = state.moments[i];
    const Shape& shape = slots_[i].mean.shape();
    require<ValueError>(path == slots_[i].path, "adamw",
                        "a state must have the optimiser's parameters in its order", path,
                        slots_[i].path);
    require(
        mean.defined() && variance.defined() && mean.shape() == shape && variance.shape() == shape,
        "adamw", "moments must have the shape of their parameter: path and shapes", path,
        mean.shape(), variance.shape(), shape);
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    copy(state.moments[i].mean, slots_[i].mean);
    copy(state.moments[i].variance, slots_[i].variance);
  }
  steps_ = state.steps;
}

Decline decline_named(std::string_view name) {
  if (name == "cosine") return Decline::cosine;
  if (name == "linear") return Decline::linear;
  require<ValueError>(name == "constant", "schedule", "must be cosine, linear or constant", name);
  return Decline::none;
}

double Schedule::operator()(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (steps <= warmup || decline == Decline::none) return peak;
  const double progress =
      std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(steps - warmup));
  if (decline == Decline::linear) return peak * (1 - progress);
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

void run(Cpu cpu, const AdamWUpdate& args) {
  const auto kernel = FPRNN_SELECT(cpu, adamw_update);
  parallel_for(cpu, args.count, kGrain,
               [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace fprnn
