#include <fprnn/models/layer.h>

#include <algorithm>

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
  if (there == 0) return;
  require<UsageError>(there == shapes.size() && state.size() == shapes.size(), op,
                      "a state must be one of this layer: how many tensors it has and should have",
                      there, shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i)
    require<UsageError>(state[i].shape() == shapes[i], op,
                        "a state must be one of this layer and batch: its shape and the layer's",
                        state[i].shape(), shapes[i]);
}

}  // namespace fprnn
