// The one training loop.
#pragma once

#include <fprnn/models/adamw.h>
#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/task.h>

#include <functional>

namespace fprnn {

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 64;
  int64_t length = 16;
  double lr = 1e-3;
  int64_t warmup = 0;  // steps
  double clip = 1;     // of the global gradient norm
  uint64_t seed = 0;
  AdamWOptions adamw = {};
};

struct StepMetrics {
  int64_t step = 0;  // the first is 1
  double loss = 0;
  double gradient_norm = 0;
  double lr = 0;
  double seconds = 0;  // since training began
  double tokens_per_second = 0;
};

// Streams of the seed: batches are a pure function of seed and step, and what is evaluated is never trained on.
Rng training_stream(uint64_t seed, int64_t step);
Rng evaluation_stream(uint64_t seed, int64_t length);
Rng initial_stream(uint64_t seed);

// Trains in place; `watch` sees every step and stops the run by returning false. A step whose loss or gradient
// norm is not finite changes nothing; Error after ten in a row, naming the first parameter
// concerned.
void train(SequenceModel& model, const Task& task, const Context& context,
           const TrainOptions& options, const std::function<bool(const StepMetrics&)>& watch);

}  // namespace fprnn
