#include <fprnn/tasks/run/conditions.h>
#include <fprnn/tasks/run/solves.h>

namespace fprnn {

namespace {

Rng cap_stream(uint64_t seed, int64_t number) {
  return {seed, uint64_t{1} << 61 | static_cast<uint64_t>(number)};
}
Rng mask_stream(uint64_t seed, int64_t number, uint64_t place) {
  return {seed, uint64_t{1} << 60 | place << 40 | static_cast<uint64_t>(number)};
}

}  // namespace

DrawnConditions::DrawnConditions(const SequenceModel& model, const TrainOptions& options,
                                 const Context& context, const Shape& tokens)
    : options_(options), of_layers_(model.layers().size(), {.training = true}) {
  const bool drops_states = options.state_dropout.last > 0;  // it does not fall
  const std::vector<Layer*> layers = model.layers();
  uint64_t fixed_points = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    Conditions& on = of_layers_[i];
    if (options.dropout > 0) {
      on.output_mask = Tensor(context, tokens.appended(model.d_model()));
      output_masks_.push_back({on.output_mask, kMaxLayers + i});
    }
    const auto* fixed_point = dynamic_cast<const ImplicitLayer*>(layers[i]);
    if (fixed_point == nullptr) continue;
    const uint64_t place = fixed_points++;
    if (!drops_states || !fixed_point->has_states()) continue;
    on.state_mask = Tensor(context, tokens);
    state_masks_.push_back({on.state_mask, place});
  }
}

double DrawnConditions::state_dropout_of(int64_t number) const {
  const auto& [first, last] = options_.state_dropout;
  const double step = static_cast<double>(number / options_.accumulate);
  return first + (last - first) * step / static_cast<double>(options_.steps);
}

void DrawnConditions::draw(int64_t number) {
  const IterationCap& cap = options_.iteration_cap;
  Rng rng = cap_stream(options_.seed, number);
  const int64_t most = cap.shape > 0 ? draw_iteration_cap(cap.shape, cap.scale, rng) : cap.fixed;
  for (Conditions& on : of_layers_) on.iteration_cap = most;
  for (const Mask& mask : output_masks_)
    draw_output_mask(options_.dropout, mask_stream(options_.seed, number, mask.place), mask.values);
  for (const Mask& mask : state_masks_)
    draw_state_mask(state_dropout_of(number), mask_stream(options_.seed, number, mask.place),
                    mask.values);
}

}  // namespace fprnn
