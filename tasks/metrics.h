// Metrics by name: how a model's answers to a task are judged. One masked count of right answers
// serves every task; a task may add metrics of its own.
#pragma once

#include <fprnn/core/tensor.h>

#include <functional>

namespace fprnn {

struct Batch;  // tasks/task.h

// A weighted mean that batches add to, so that it does not depend on how they are cut.
struct Mean {
  double sum = 0, weight = 0;  // of weighted values, and of weights

  // One more value; all of another mean's.
  void add(double value, double weight = 1) {
    sum += weight * value;
    this->weight += weight;
  }
  void add(const Mean& other) {
    sum += other.sum;
    weight += other.weight;
  }
  double value() const { return sum / weight; }  // NaN without weight
};

// One counted position: (b, t) of (B, T), how many of its sequence's are before it, and whether its
// answer is right.
struct Counted {
  int64_t b = 0, t = 0, before = 0;
  bool right = false;
};
// Those of all sequences in order. answers (B, T): the token at each position, -1 for none. ShapeError:
// the shapes of answers, targets, mask and counted differ or are not (B, T).
void for_each_counted(const IntTensor& answers, const Batch& batch,
                      const std::function<void(const Counted& at)>& visit);

// The counted positions of one sequence.
struct Score {
  int64_t counted = 0;
  int64_t right = 0;
  int64_t before_error = 0;  // before the first wrong one; all, if none is wrong
  bool last_right = false;   // whether the last counted answer is right
  int64_t last = -1;         // its position
  // Also where nothing is counted.
  bool all_right() const { return right == counted; }
};
// Of each sequence. ShapeError: as for_each_counted.
std::vector<Score> scores(const IntTensor& answers, const Batch& batch);

// What a model makes of a batch.
struct Answered {
  const Batch& batch;
  const IntTensor& answers;   // (B, T): argmax of the logits
  const Tensor& logits;       // (B, T, V), in the model's Context
  std::vector<Score> scores;  // (B)
  // (B, T): answers when the model reads its own (tasks/decode.h); undefined: the task asks for none
  IntTensor decoded = {};
};

// One number that an evaluation reports.
struct Metric {
  // A key of eval.json and, its underscores as spaces, the head of a column: "whole_sequences".
  std::string name;
  std::function<Mean(const Answered&)> over;  // a batch
  // Of the mean over all batches: what is reported. Unset: the mean itself.
  std::function<double(double mean)> finish = {};
  // Where it is the main metric: its name in a title; whether it is the share of so many sequences
  // that are right, so that it has an interval (tasks/report/record.h).
  std::string caption = {};
  bool of_sequences = false;
};
// What is reported, from the mean over all batches.
double value_of(const Metric& metric, const Mean& mean);

// The part of an accuracy that is above chance, among so many answers: 1 if all are right.
double scaled(double accuracy, int64_t answers);

// Sequences without counted positions count in none of these.
Mean whole_sequences(const Answered& answered);  // sequences with every counted position right
Mean tokens(const Answered& answered);           // counted positions that are right
Mean last_token(const Answered& answered);       // last counted positions that are right
// The share of a sequence's counted positions that stand before its first wrong one, averaged over
// sequences: 1 without errors, 0 where the first counted position is wrong.
Mean prefix(const Answered& answered);
// Nats by which the targets are missed, a unit of mask: its mean is the loss.
Mean nats(const Answered& answered);

// whole_sequences, tokens, last_token and prefix.
std::vector<Metric> accuracies();

}  // namespace fprnn
