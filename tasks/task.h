// What a task gives training and evaluation: batches, and the metrics that its answers are judged
// by.
#pragma once

#include <fprnn/tasks/metrics.h>

namespace fprnn {

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;  // of tokens and targets
  // B sequences of the given length, a pure function of rng. T may be longer, by a first token say.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
  // What an evaluation reports, in this order; one at least. The first is the main one: charts and
  // comparisons show it.
  virtual std::vector<Metric> metrics() const { return accuracies(); }
};

}  // namespace fprnn
