// A layer that carries a State of its own through a sequence, with gradients where a caller asks
// for them, and whose steps cannot forget it.
#pragma once

#include <fprnn/models/layer.h>

#include <array>

namespace fprnn {

// The parts of a state, in the order in which a LayerState has them. A State that is not one Var has
// such a function too.
inline std::array<Var*, 1> parts_of(Var& state) { return {&state}; }

template <class State>
class StateLayer : public Layer {
 public:
  // In the name of `op` it refuses the state of another layer, UsageError.
  StateLayer(Module& parent, std::string name, std::string_view op)
      : Layer(parent, std::move(name)), op_(op) {}
  using Layer::forward;
  // The same with gradients through the state, which may be empty at the start of a sequence.
  virtual Var forward(const Var& u, State& state) = 0;
  bool capturable(const Conditions& = {}) const override { return true; }  // it reads nothing back

 protected:
  // Of B sequences: of the parts that this layer has, which come first.
  virtual std::vector<Shape> state_shapes(int64_t B) const = 0;

  // forward, with a LayerState of any layer's form.
  Var evaluate(const Var& u, LayerState* state, const Conditions& on) override {
    require<ValueError>(!on.state_mask.defined(), op_, "no step of it can forget its state");
    State carried;
    const auto parts = parts_of(carried);
    if (state != nullptr && !state->empty() && u.shape().rank() == 3) {
      check_state(op_, *state, state_shapes(u.size(0)));
      for (size_t i = 0; i < state->size(); ++i) *parts[i] = (*state)[i];
    }
    const Var out = forward(u, carried);
    if (state == nullptr || !parts.front()->defined()) return out;
    state->clear();
    for (size_t i = 0; i < state_shapes(0).size(); ++i) state->push_back(parts[i]->value());
    return out;
  }

  std::string_view op_;  // its name in errors
};

}  // namespace fprnn
