#include <fprnn/models/layer.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

Var Layer::forward(const Var& x, LayerState& state, const Conditions& on) {
  LayerState next = state;
  const Var y = evaluate(x, &next, on);
  state = std::move(next);
  return y;
}

void check_state(std::string_view op, std::span<const Tensor> state,
                 std::span<const Shape> shapes) {
  const auto there = static_cast<size_t>(std::ranges::count_if(state, &Tensor::defined));
  if (state.empty() || (there == 0 && state.size() == shapes.size())) return;
  require<UsageError>(there == shapes.size() && state.size() == shapes.size(), op,
                      "a state must be one of this layer: how many tensors it has and should have",
                      there, shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i)
    require<UsageError>(state[i].shape() == shapes[i], op,
                        "a state must be one of this layer and batch: its shape and the layer's",
                        state[i].shape(), shapes[i]);
}

int64_t draw_iteration_cap(int64_t shape, double scale, Rng& rng) {
  require<ValueError>(shape >= 1 && scale > 0 && std::isfinite(scale), "solver",
                      "Gamma's shape must be at least 1 and its scale positive", shape, scale);
  const Rng fresh = rng.next_stream();
  double sum = 0;  // of as many exponentials as the shape says
  for (int64_t i = 0; i < shape; ++i) sum -= std::log1p(-static_cast<double>(fresh.uniform(i)));
  constexpr double kMost = 1e9;
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::min(scale * sum, kMost))));
}

namespace {

// 0 with probability `rate`, else `kept`.
void draw_mask(double rate, double kept, Rng rng, const Tensor& mask) {
  launch(mask.context(), RandomFill{.out = mask.data(),
                                    .count = mask.elements(),
                                    .rng = rng.next_stream(),
                                    .distribution = Distribution::keep,
                                    .offset = 0,
                                    .scale = static_cast<real>(kept),
                                    .rate = rate});
}

}  // namespace

void check_state_dropout(double rate) {
  require<ValueError>(rate >= 0 && rate <= 1, "state_dropout", "the rate must be in [0, 1]", rate);
}

void check_dropout(double rate) {
  require<ValueError>(rate >= 0 && rate < 1, "dropout", "the rate must be in [0, 1)", rate);
}

void draw_state_mask(double rate, Rng rng, const Tensor& mask) {
  check_state_dropout(rate);
  draw_mask(rate, 1, rng, mask);
}

void draw_output_mask(double rate, Rng rng, const Tensor& mask) {
  check_dropout(rate);
  draw_mask(rate, 1 / (1 - rate), rng, mask);
}

}  // namespace fprnn
