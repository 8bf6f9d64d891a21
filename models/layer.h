// What a residual backbone stacks: a map of sequences.
#pragma once

#include <fprnn/models/conditions.h>
#include <fprnn/models/module.h>

#include <span>

namespace fprnn {

// What a layer carries from one chunk of a sequence to the next, each with the batch first; as
// values, no gradient flows through them. Empty at the start of a sequence.
using LayerState = std::vector<Tensor>;

// Refuses, in the name of `op`, what another layer or batch has left: a tensor that is there while
// others are not, or of another shape. UsageError.
void check_state(std::string_view op, std::span<const Tensor> state, std::span<const Shape> shapes);

class Layer : public Module {
 public:
  using Module::Module;
  Var forward(const Var& x, const Conditions& on = {}) {  // (B, T, d) -> (B, T, d)
    return evaluate(x, nullptr, on);
  }
  // One chunk: starts from `state` and replaces it. Chunks of one step are the O(1)-memory decoder.
  // If it throws, the state is what it was.
  Var forward(const Var& x, LayerState& state, const Conditions& on = {});
  // Whether forward and its gradient do the same each time, up to what is in tensors, and read
  // nothing back: then they may be captured once and repeated (core/graph.h).
  virtual bool recordable(const Conditions& /*on*/ = {}) const { return false; }

 protected:
  // forward. state is null if nobody goes on from here.
  virtual Var evaluate(const Var& x, LayerState* state, const Conditions& on) = 0;
};

}  // namespace fprnn
