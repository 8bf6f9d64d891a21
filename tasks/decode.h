// Answers that a model gives step by step, reading its own words.
#pragma once

#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/task.h>

namespace fprnn {

// (B, T), on the host: the argmax at each position from the row's first one that the mask has on.
// Up to there the model reads the row's tokens, then its last answer, each by SequenceModel::step.
// -1: before, in a row without mask, and once the row has said `end` or has had no answer. Errors are
// those of step.
IntTensor decode(SequenceModel& model, const Context& context, const Batch& batch, int32_t end);

}  // namespace fprnn
