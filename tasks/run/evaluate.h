// How a model does on lengths it was perhaps never trained on.
#pragma once

#include <fprnn/tasks/run/train.h>

namespace fprnn {

// `sequences` of the length, from a stream that training never reads; in pieces of a bounded number
// of tokens, which do not change the result but where the automatic solver may choose by them; it
// starts anew. MemoryError, naming both. UsageError: the task has no metric.
LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
                      int64_t length, int64_t sequences);

}  // namespace fprnn
