// What a task gives training and evaluation: batches of tokens with the targets to predict, and the
// metrics that its answers are judged by.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/tasks/protocols.h>

#include <optional>

namespace fprnn {

struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss
  // (B, T): not 0 where metrics count the answer; undefined: where mask is not
  Tensor counted = {};

  // What a step of training reads: all but `counted`.
  Batch on(const Context& context) const {
    return {tokens.on(context), targets.on(context), mask.on(context)};
  }
};

// ValueError: not a batch, or one of 2^31 tokens or more, a first one before each sequence
// included.
void check_batch(std::string_view tag, int64_t sequences, int64_t length);

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;  // of tokens and targets
  // B sequences of the given length, a pure function of rng. T may be longer, by a first token say.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
  // What an evaluation at this length asks, where that is not what training at it does: lengths up to
  // this one, say, or examples that training packs.
  virtual Batch examination(const Context& context, const Rng& rng, int64_t B,
                            int64_t length) const {
    return sample(context, rng, B, length);
  }
  // Asked before a run makes anything. ValueError: the task has no training, or no examination, of
  // this length.
  virtual void check_training(int64_t /*length*/) const {}
  virtual void check_examination(int64_t /*length*/) const {}
  // The token that ends an answer, where an evaluation shall also decode answers step by step for
  // its metrics (Answered::decoded, tasks/decode.h).
  virtual std::optional<int32_t> end_of_answer() const { return std::nullopt; }
  // What an evaluation reports, in this order; one at least. The first is the main one: charts and
  // comparisons show it.
  virtual std::vector<Metric> metrics() const { return accuracies(); }
  // What else an evaluation reports of its longest sequences, whose beginnings are sequences too;
  // nothing by default.
  virtual Protocols protocols(const Curves& /*curves*/) const { return {}; }
};

// Those of the task. UsageError: it has none.
std::vector<Metric> metrics_of(const Task& task);

}  // namespace fprnn
