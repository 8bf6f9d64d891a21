// What a task gives training and evaluation: batches of tokens with the targets to predict, and the
// metrics that its answers are judged by.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/tasks/protocols.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace fprnn {

// B rows of T tokens. On the host as tasks make them.
struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss
  // (B, T): not 0 where metrics count the answer; undefined: where mask is not
  Tensor counted = {};
  // Each row begins a sequence; else it goes on where that row of the batch before ended.
  bool starts = true;

  // What a step of training reads: all but `counted`.
  Batch on(const Context& context) const {
    return {.tokens = tokens.on(context),
            .targets = targets.on(context),
            .mask = mask.on(context),
            .starts = starts};
  }
};

// ValueError: not a batch, or one of 2^31 tokens or more, a first one before each sequence
// included.
void check_batch(std::string_view tag, int64_t sequences, int64_t length);

// The random stream of a batch of training, the first being 0: batches are a pure function of seed
// and number.
Rng training_stream(uint64_t seed, int64_t number);

// Text that an evaluation reads from its beginning to its end, in batches.
struct Reading {
  int64_t length = 0;  // of each sequence: a window, or a lane, which goes on from batch to batch
  int64_t sequences = 0;  // windows or lanes
  int64_t batches = 0;
  bool carries = false;  // the state, to where a batch goes on (Batch::starts)
  std::function<Batch(const Context& context, int64_t number)> batch;  // the first is 0
};

// What targets are besides tokens: bytes, say.
struct Unit {
  std::string name;                            // of one
  std::function<int64_t(const Batch&)> count;  // how many a batch asks for
};

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;  // of tokens and targets
  // A token as people read it, and write it for a model to answer (tasks/run/examples.h): a word
  // without white space that no other token has.
  virtual std::string name_of(int32_t token) const { return std::to_string(token); }
  // B sequences of the given length, a pure function of rng. T may be longer, by a first token say.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
  // A batch of training, the first being 0. Where a task carries state, its rows may go on from batch
  // to batch (Batch::starts), all with as many rows: a model's state is then carried along, detached.
  virtual Batch training_batch(const Context& context, uint64_t seed, int64_t number, int64_t B,
                               int64_t length) const {
    return sample(context, training_stream(seed, number), B, length);
  }
  virtual bool carries_state() const { return false; }
  // In which training shows its loss and its speed too (StepMetrics::in_units).
  virtual std::optional<Unit> unit() const { return std::nullopt; }
  // What was read to make it, in a line that tells it from other data: a run goes on with the same alone.
  // Empty: settings say it all.
  virtual std::string data() const { return ""; }
  // What an evaluation at this length asks, where that is not what training at it does: lengths up to
  // this one, say, or examples that training packs.
  virtual Batch examination(const Context& context, const Rng& rng, int64_t B,
                            int64_t length) const {
    return sample(context, rng, B, length);
  }
  // What an evaluation at this length reads instead, if it is no sample but all of a text.
  virtual std::optional<Reading> reading(int64_t /*length*/) const { return std::nullopt; }
  // What an evaluation reads besides, at whatever lengths, each a result of its own after those of the
  // lengths: held-out text as a whole, with the state carried from batch to batch.
  virtual std::vector<Reading> texts() const { return {}; }
  // Asked before training begins. ValueError: a task that carries state has no B rows of this length.
  virtual void check_lanes(int64_t /*B*/, int64_t /*length*/) const {}
  // Asked before a run makes anything. ValueError: the task has no training, or no examination, of
  // this length.
  virtual void check_training(int64_t /*length*/) const {}
  virtual void check_examination(int64_t /*length*/) const {}
  // What --keep best reads to choose among the weights of a training, at the length trained at, if that is
  // not samples which training does not read: the mean of nats over it is the validation loss.
  virtual std::optional<Reading> validation(int64_t /*length*/) const { return std::nullopt; }
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
