#include <fprnn/core/vector.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/tasks/train.h>

#include <chrono>
#include <cmath>

namespace fprnn {

Rng training_stream(uint64_t seed, int64_t step) { return {seed, static_cast<uint64_t>(step)}; }
Rng evaluation_stream(uint64_t seed, int64_t length) {
  return {seed, uint64_t{1} << 63 | static_cast<uint64_t>(length)};
}
Rng initial_stream(uint64_t seed) { return {seed, uint64_t{1} << 62}; }

namespace {

constexpr int kMostSkipped = 10;  // non-finite steps in a row

void check(const TrainOptions& options) {
  require<ValueError>(options.steps >= 1 && options.batch_size >= 1 && options.length >= 1, "train",
                      "steps, batch size and length must be at least 1", options.steps,
                      options.batch_size, options.length);
  require<ValueError>(options.lr > 0 && options.clip > 0 && options.warmup >= 0, "train",
                      "lr and clip must be positive and warm-up not negative", options.lr,
                      options.clip, options.warmup);
}

// The parameter whose value or gradient is not finite, for the error message. Values first: one
// that is not finite spoils the gradients of all.
std::string first_not_finite(SequenceModel& model) {
  const auto parameters = model.parameters();
  for (const auto& [path, parameter] : parameters)
    if (!std::isfinite(max_abs(parameter->value))) return path;
  for (const auto& [path, parameter] : parameters)
    if (parameter->gradient.defined() && !std::isfinite(max_abs(parameter->gradient)))
      return "the gradient of " + path;
  return "the loss";
}

}  // namespace

void train(SequenceModel& model, const Task& task, const Context& context,
           const TrainOptions& options, const std::function<bool(const StepMetrics&)>& watch) {
  check(options);
  AdamW optimiser(model.parameters(), options.adamw);
  const CosineSchedule schedule{options.lr, options.warmup, options.steps};
  const auto start = std::chrono::steady_clock::now();
  int skipped = 0;
  for (int64_t step = 0; step < options.steps; ++step) {
    const Batch batch = task.sample(context, training_stream(options.seed, step),
                                    options.batch_size, options.length);
    StepMetrics metrics{.step = step + 1, .lr = schedule(step)};
    {
      Tape tape(context);
      const Var loss =
          masked_cross_entropy(model.forward(tape, batch.tokens), batch.targets, batch.mask);
      metrics.loss = loss.data()[0];
      tape.backward(loss);
    }
    metrics.gradient_norm = optimiser.gradient_norm();
    if (std::isfinite(metrics.loss) && std::isfinite(metrics.gradient_norm)) {
      optimiser.step(metrics.lr, AdamW::clip_factor(metrics.gradient_norm, options.clip));
      skipped = 0;
    } else {
      const std::string culprit = first_not_finite(model);
      for (const auto& [path, parameter] : model.parameters()) parameter->gradient = Tensor();
      require<Error>(++skipped < kMostSkipped, "train",
                     "loss and gradients must be finite: step and first to fail", step + 1,
                     culprit);
    }
    metrics.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    metrics.tokens_per_second =
        static_cast<double>((step + 1) * batch.tokens.elements()) / metrics.seconds;
    if (!watch(metrics)) return;
  }
}

}  // namespace fprnn
