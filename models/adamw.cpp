#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>

#include <cmath>
#include <numbers>

namespace fprnn {

AdamW::AdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options)
    : options_(options) {
  const auto& [beta1, beta2, eps, weight_decay] = options;
  // As the kernels see them: a beta that rounds to 1 would hold its moment at 0, an eps that rounds
  // to 0 would divide by it.
  const auto as_real = [](double x) { return static_cast<real>(x); };
  require<ValueError>(beta1 >= 0 && as_real(beta1) < 1 && beta2 >= 0 && as_real(beta2) < 1, "adamw",
                      "betas must be in [0, 1)", beta1, beta2);
  require<ValueError>(as_real(eps) > 0 && std::isfinite(as_real(eps)) && weight_decay >= 0 &&
                          std::isfinite(weight_decay),
                      "adamw", "eps must be positive and weight_decay not negative", eps,
                      weight_decay);
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

std::vector<AdamWPart> AdamW::parts() const {
  std::vector<AdamWPart> parts;
  for (const auto& [path, parameter, mean, variance] : slots_) {
    const auto& [name, value, gradient, decays] = *parameter;
    if (!gradient.defined()) continue;
    require(value.shape() == mean.shape() && gradient.shape() == mean.shape(), "adamw",
            "value and gradient must have the shape of their moments: path and shapes", path,
            value.shape(), gradient.shape(), mean.shape());
    require_together("adamw", mean, value, gradient);
    if (mean.elements() == 0) continue;
    parts.push_back({.value = value.data(),
                     .mean = mean.data(),
                     .variance = variance.data(),
                     .gradient = gradient.data(),
                     .count = mean.elements(),
                     .decays = decays});
  }
  return parts;
}

void AdamW::prepare(double lr, double clip) {
  const auto t = static_cast<double>(steps_ + 1);
  const AdamWNumbers numbers{
      .shrink = static_cast<real>(1 - lr * options_.weight_decay),
      .step_size = static_cast<real>(lr / (1 - std::pow(options_.beta1, t))),
      .variance_correction = static_cast<real>(1 / std::sqrt(1 - std::pow(options_.beta2, t))),
      .clip = clip};
  require<ValueError>(lr >= 0 && std::isfinite(numbers.shrink) && std::isfinite(numbers.step_size),
                      "adamw", "lr must be finite, also as a real, and not negative", lr);
  require<ValueError>(clip > 0, "adamw", "clip must be positive", clip);
  if (slots_.empty()) return;
  const Context& context = slots_.front().mean.context();
  if (numbers_ == nullptr) {
    numbers_ = std::make_shared<Storage>(context, int64_t{sizeof(AdamWNumbers)});
    outcome_ = std::make_shared<Storage>(context, int64_t{sizeof(AdamWOutcome)});
  }
  launch(context, FromHost{.from = &numbers, .to = numbers_->data(), .bytes = sizeof numbers});
}

void AdamW::enqueue(const Tensor& loss) {
  if (slots_.empty()) return;
  require<UsageError>(numbers_ != nullptr, "adamw", "a step must be prepared");
  const Context& context = numbers_->context();
  require(loss.elements() == 1, "adamw", "the loss must be one element", loss.shape());
  require_together("adamw", slots_.front().mean, loss);
  const std::vector<AdamWPart> parts = this->parts();
  auto* const outcome = static_cast<AdamWOutcome*>(outcome_->data());
  launch(context, GradientSquares{.parts = parts, .outcome = outcome});
  launch(context, AdamWUpdate{.parts = parts,
                              .numbers = static_cast<const AdamWNumbers*>(numbers_->data()),
                              .loss = loss.defined() ? loss.data() : nullptr,
                              .outcome = outcome,
                              .beta1 = static_cast<real>(options_.beta1),
                              .beta2 = static_cast<real>(options_.beta2),
                              .eps = static_cast<real>(options_.eps)});
}

AdamW::Outcome AdamW::finish() {
  AdamWOutcome outcome{0, 0};
  require<UsageError>(slots_.empty() || numbers_ != nullptr, "adamw", "a step must be prepared");
  if (!slots_.empty())
    launch(numbers_->context(),
           ToHost{.from = outcome_->data(), .to = &outcome, .bytes = sizeof outcome});
  if (outcome.taken != 0) ++steps_;
  return {std::sqrt(outcome.squares), outcome.taken != 0};
}

AdamW::Outcome AdamW::step(double lr, double clip) {
  prepare(lr, clip);
  enqueue();
  for (const Slot& slot : slots_) slot.parameter->gradient = Tensor();  // finish may throw
  return finish();
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
  const double height = peak - end;
  if (decline == Decline::linear) return end + height * (1 - progress);
  return end + height * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace fprnn
