#include <fprnn/models/layer.h>
#include <fprnn/tasks/run/train_options.h>

#include <cmath>
#include <limits>

namespace fprnn {

namespace {

constexpr int64_t kMostAccumulated = 1 << 16;
constexpr int64_t kMaxSteps = int64_t{1} << 40;  // the numbers that streams have room for

}  // namespace

int64_t length_at(const TrainOptions& options, int64_t step) {
  const auto& [from, share] = options.curriculum;
  const double grown = share * static_cast<double>(options.steps);
  if (from == 0 || static_cast<double>(step) >= grown) return options.length;
  const auto longer = static_cast<double>(options.length - from);
  return from + static_cast<int64_t>(longer * static_cast<double>(step) / grown);
}

void check_training(const Task& task, const TrainOptions& options) {
  for (const int64_t step : {int64_t{0}, options.steps})
    task.check_training(length_at(options, step));
}

const TrainOptions& check(const TrainOptions& options) {
  require<ValueError>(options.steps >= 1 && options.batch_size >= 1 && options.length >= 1, "train",
                      "steps, batch size and length must be at least 1", options.steps,
                      options.batch_size, options.length);
  require<ValueError>(options.steps <= kMaxSteps, "train", "there must be at most 2^40 steps",
                      options.steps);
  require<ValueError>(options.accumulate >= 1 && options.accumulate <= kMostAccumulated &&
                          options.accumulate <= kMaxSteps / options.steps,
                      "train", "accumulate must be 1 to 2^16, and all batches at most 2^40",
                      options.accumulate, options.steps);
  check_batch("train", options.batch_size, options.length);
  const auto lr = static_cast<real>(options.lr);  // of which the optimiser makes its step
  require<ValueError>(lr > 0 && std::isfinite(lr) && options.clip > 0 && options.warmup >= 0,
                      "train", "lr and clip must be positive and warm-up not negative", options.lr,
                      options.clip, options.warmup);
  require<ValueError>(options.end_lr >= 0 && options.end_lr <= options.lr, "train",
                      "end_lr must be 0 to lr", options.end_lr, options.lr);
  require<ValueError>(std::isfinite(static_cast<real>(options.adamw.weight_decay)), "train",
                      "weight_decay must be finite", options.adamw.weight_decay);
  const auto& [from, share] = options.curriculum;
  require<ValueError>(from >= 0 && from <= options.length && share >= 0 && share <= 1, "train",
                      "a curriculum must start within the length and end within the steps", from,
                      share, options.length);
  const IterationCap& cap = options.iteration_cap;
  require<ValueError>(cap.fixed >= 0 && cap.fixed <= std::numeric_limits<int32_t>::max(),
                      "iteration_cap", "must be 1 to 2^31 - 1, or 0 for none", cap.fixed);
  Rng unused;
  if (cap.shape != 0) draw_iteration_cap(cap.shape, cap.scale, unused);
  require<ValueError>(options.label_smoothing >= 0 && options.label_smoothing < 1,
                      "label_smoothing", "must be in [0, 1)", options.label_smoothing);
  check_dropout(options.dropout);
  check_state_dropout(options.state_dropout.first);
  check_state_dropout(options.state_dropout.last);
  require<ValueError>(options.state_dropout.first <= options.state_dropout.last, "state_dropout",
                      "must not fall in training: its first and its final rate",
                      options.state_dropout.first, options.state_dropout.last);
  return options;
}

}  // namespace fprnn
