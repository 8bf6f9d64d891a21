// The step form of a model whose weights stay as they are. What its layers make of their weights
// alone, such as a fixed point's projection, is made once and not for every token; that takes as much
// memory as those weights.
#pragma once

#include <fprnn/models/sequence_model.h>

#include <memory>
#include <vector>

namespace fprnn {

class Decoder {
 public:
  // The model must outlive it, and its weights must not change.
  explicit Decoder(SequenceModel& model);
  // As SequenceModel::step, (B) -> logits (B, V), to the bit, with its errors.
  Tensor step(SequenceModel::State& state, const IntTensor& tokens) {
    return model_.step(state, tokens, on_);
  }

 private:
  SequenceModel& model_;
  std::vector<std::unique_ptr<PreparedWeights>> prepared_;
  std::vector<Conditions> on_;
};

}  // namespace fprnn
