// What a training is told: how many steps of what, at which rates.
#pragma once

#include <fprnn/models/adamw.h>
#include <fprnn/tasks/task.h>

namespace fprnn {

// A cap on the solvers' iterations in training alone: none, a number, or one drawn anew each step
// from a Gamma distribution (models/layer.h).
struct IterationCap {
  int64_t fixed = 0;  // iterations; 0: none
  int64_t shape = 0;
  double scale = 0;  // of the distribution
};

// Short sequences first: from length `from`, one longer at equal intervals, to the whole length
// after this share of the steps. 0: the whole length always.
struct Curriculum {
  int64_t from = 0;
  double share = 0;
};

// A rate that rises evenly over the training, or stays: `first` at its first step, `last` one step after its last.
struct Rising {
  double first, last;
  Rising(double rate = 0) : first(rate), last(rate) {}
  Rising(double first, double last) : first(first), last(last) {}
};

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 64;  // sequences
  int64_t accumulate = 1;  // batches of a step, one after the other; its loss is the mean of theirs
  int64_t length = 16;     // of sequences, in tokens
  Curriculum curriculum = {};
  double lr = 1e-3;
  int64_t warmup = 0;  // steps
  Decline decline = Decline::cosine;
  double end_lr = 0;  // that it declines to
  double clip = 1;    // of the global gradient norm
  IterationCap iteration_cap = {};
  double label_smoothing = 0;  // ops/cross_entropy.h
  double dropout = 0;          // models/layer.h
  Rising state_dropout = 0;    // models/layer.h
  uint64_t seed = 0;
  AdamWOptions adamw = {};
};

// The same. ValueError: one is out of range. AdamW checks its own.
const TrainOptions& check(const TrainOptions& options);

// Of the sequences of a step, the first being 0.
int64_t length_at(const TrainOptions& options, int64_t step);

// At the first length and the last. ValueError: the task has no training of one.
void check_training(const Task& task, const TrainOptions& options);

}  // namespace fprnn
