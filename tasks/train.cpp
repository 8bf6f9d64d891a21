#include <fprnn/core/vector.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/tasks/train.h>

#include <algorithm>
#include <chrono>
#include <cmath>

namespace fprnn {

Rng training_stream(uint64_t seed, int64_t step) { return {seed, static_cast<uint64_t>(step)}; }
Rng evaluation_stream(uint64_t seed, int64_t length) {
  return {seed, uint64_t{1} << 63 | static_cast<uint64_t>(length)};
}
Rng initial_stream(uint64_t seed) { return {seed, uint64_t{1} << 62}; }

int64_t length_at(const TrainOptions& options, int64_t step) {
  const auto& [from, share] = options.curriculum;
  const double grown = share * static_cast<double>(options.steps);
  if (from == 0 || static_cast<double>(step) >= grown) return options.length;
  return from + static_cast<int64_t>(static_cast<double>((options.length - from) * step) / grown);
}

namespace {

constexpr int kMostSkipped = 10;  // non-finite steps in a row

// What else a step draws: its iteration cap, and the states that a layer drops.
Rng cap_stream(uint64_t seed, int64_t step) {
  return {seed, uint64_t{1} << 61 | static_cast<uint64_t>(step)};
}
Rng dropout_stream(uint64_t seed, int64_t step, uint64_t layer) {
  return {seed, uint64_t{1} << 60 | layer << 40 | static_cast<uint64_t>(step)};
}

const TrainOptions& checked(const TrainOptions& options) {
  require<ValueError>(options.steps >= 1 && options.batch_size >= 1 && options.length >= 1, "train",
                      "steps, batch size and length must be at least 1", options.steps,
                      options.batch_size, options.length);
  require<ValueError>(options.lr > 0 && options.clip > 0 && options.warmup >= 0, "train",
                      "lr and clip must be positive and warm-up not negative", options.lr,
                      options.clip, options.warmup);
  const auto& [from, share] = options.curriculum;
  require<ValueError>(from >= 0 && from <= options.length && share >= 0 && share <= 1, "train",
                      "a curriculum must start within the length and end within the steps", from,
                      share, options.length);
  return options;
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

std::vector<FixedPointLayer*> fixed_points(const SequenceModel& model) {
  std::vector<FixedPointLayer*> found;
  for (Layer* layer : model.layers())
    if (auto* fixed_point = dynamic_cast<FixedPointLayer*>(layer)) found.push_back(fixed_point);
  return found;
}

// Where `patience` stops a batch in training; it evaluates with 1 (the authors' code).
constexpr double kPatienceQuantile = 0.75;

// What holds for a step of training and not beyond it, for as long as this lives: the iteration
// cap, the quantile and the dropping of states.
class TrainingStep {
 public:
  TrainingStep(const SequenceModel& model, const TrainOptions& options, int64_t step) {
    const IterationCap& cap = options.iteration_cap;
    Rng rng = cap_stream(options.seed, step);
    const int64_t most = cap.shape > 0 ? draw_iteration_cap(cap.shape, cap.scale, rng) : cap.fixed;
    for (FixedPointLayer* layer : fixed_points(model)) {
      if (layer->has_states())
        layer->state_dropout = {options.state_dropout,
                                dropout_stream(options.seed, step, before_.size())};
      before_.emplace_back(layer, layer->solver);
      if (most > 0) layer->solver.max_iterations = most;
      layer->solver.patience.quantile = kPatienceQuantile;
    }
  }
  ~TrainingStep() {
    for (const auto& [layer, solver] : before_) {
      layer->solver = solver;
      layer->state_dropout = {};
    }
  }
  TrainingStep(const TrainingStep&) = delete;
  TrainingStep& operator=(const TrainingStep&) = delete;

 private:
  std::vector<std::pair<FixedPointLayer*, SolverOptions>> before_;
};

}  // namespace

Solves last_solves(const SequenceModel& model) {
  Solves solves;
  int layers = 0;
  for (const FixedPointLayer* layer : fixed_points(model)) {
    const FixedPointReport& report = layer->report();
    ++layers;
    solves.iterations_mean += (report.mean_iterations() - solves.iterations_mean) / layers;
    solves.iterations_max = std::max(solves.iterations_max, report.max_iterations());
    // A NaN stays.
    if (!(report.max_residual() <= solves.residual_max))
      solves.residual_max = report.max_residual();
    solves.unconverged += report.unconverged();
  }
  return solves;
}

Training::Training(SequenceModel& model, const Task& task, const Context& context,
                   const TrainOptions& options)
    : model_(model),
      task_(task),
      context_(context),
      options_(checked(options)),
      schedule_{options.lr, options.warmup, options.steps, options.decline},
      optimiser_(model.parameters(), options.adamw) {}

void Training::go_on(int64_t steps, int64_t skipped, double seconds) {
  last_ = {.step = steps, .seconds = seconds, .skipped = skipped};
}

const StepMetrics& Training::step() {
  const auto start = std::chrono::steady_clock::now();
  const int64_t step = last_.step;  // counted from 0
  const Batch batch = task_.sample(context_, training_stream(options_.seed, step),
                                   options_.batch_size, length_at(options_, step));
  StepMetrics metrics{.step = step + 1, .lr = schedule_(step), .skipped = last_.skipped};
  {
    const TrainingStep now(model_, options_, step);
    Tape tape(context_);
    const Var logits = model_.forward(tape, batch.tokens);
    const Var loss = masked_cross_entropy(logits, batch.targets, batch.mask);
    metrics.loss = loss.data()[0];
    metrics.accuracy = task_.accuracy(logits.value(), batch).token;
    tape.backward(loss);
  }
  const Solves solves = last_solves(model_);
  metrics.iterations_mean = solves.iterations_mean;
  metrics.iterations_max = solves.iterations_max;
  metrics.residual_max = solves.residual_max;
  metrics.unconverged = solves.unconverged;
  update(metrics);

  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  tokens_ += static_cast<double>(batch.tokens.elements());
  seconds_ += spent;
  metrics.seconds = last_.seconds + spent;
  metrics.tokens_per_second = tokens_ / seconds_;
  last_ = metrics;
  return last_;
}

void Training::update(StepMetrics& metrics) {
  metrics.grad_norm = optimiser_.gradient_norm();
  if (std::isfinite(metrics.loss) && std::isfinite(metrics.grad_norm)) {
    optimiser_.step(metrics.lr, AdamW::clip_factor(metrics.grad_norm, options_.clip));
    skipped_in_a_row_ = 0;
    return;
  }
  const std::string culprit = first_not_finite(model_);
  for (const auto& [path, parameter] : model_.parameters()) parameter->gradient = Tensor();
  ++metrics.skipped;
  require<Error>(++skipped_in_a_row_ < kMostSkipped, "train",
                 "loss and gradients must be finite: step and first to fail", metrics.step,
                 culprit);
}

void train(SequenceModel& model, const Task& task, const Context& context,
           const TrainOptions& options, const std::function<bool(const StepMetrics&)>& watch) {
  Training training(model, task, context, options);
  while (!training.finished())
    if (!watch(training.step())) return;
}

}  // namespace fprnn
