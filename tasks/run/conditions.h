// What a step of training draws besides its batches: a cap on the solvers' iterations, and what layers
// drop.
#pragma once

#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/run/train_options.h>

#include <vector>

namespace fprnn {

// The conditions of each layer for one batch. Masks are drawn where the last ones are, so that a step
// recorded as a graph finds them.
class DrawnConditions {
 public:
  // For tokens of shape (B, T).
  DrawnConditions(const SequenceModel& model, const TrainOptions& options, const Context& context,
                  const Shape& tokens);

  // Of the batch of this number, the first of the training being 0: a function of the seed and the
  // number.
  void draw(int64_t number);
  const std::vector<Conditions>& of_layers() const { return of_layers_; }  // from the embedding up

 private:
  struct Mask {
    Tensor values;
    uint64_t place;  // among all masks of a batch
  };
  double state_dropout_of(int64_t number) const;

  TrainOptions options_;
  std::vector<Conditions> of_layers_;
  std::vector<Mask> output_masks_, state_masks_;  // of the layers that have them
};

}  // namespace fprnn
