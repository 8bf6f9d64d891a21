// How a model does on lengths it was perhaps never trained on.
#pragma once

#include <fprnn/tasks/run/train.h>

namespace fprnn {

// What the task reads at the length, or else `sequences` of it from a stream that training never
// reads, in pieces of a bounded number of tokens, which do not change the result but where the
// automatic solver may choose by them; it starts anew. Adds the answers to `curves` where that is not
// null. MemoryError, naming both. UsageError: the task has no metric.
LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
                      int64_t length, int64_t sequences, Curves* curves = nullptr);
// A text of the task, or one's own, from beginning to end; the rest as above.
LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context,
                      const Reading& reading);

// The mean of nats over the task's validation text at the length or, where it has none, over
// `sequences` such as training reads at the length, of a stream that neither training nor evaluations
// read. NaN: nothing is counted there.
double validation_loss(SequenceModel& model, const Task& task, const Context& context,
                       uint64_t seed, int64_t length, int64_t sequences);

// At each of the lengths, one at least, into result.lengths; and what the task's protocols say of
// the longest. Of their beginnings they say nothing where a solver looks ahead, as patience does.
void evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
              std::span<const int64_t> lengths, int64_t sequences, Evaluation& result);

}  // namespace fprnn
