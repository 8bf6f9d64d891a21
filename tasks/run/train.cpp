#include <fprnn/core/vector.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/tasks/run/train.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>

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
  const auto longer = static_cast<double>(options.length - from);
  return from + static_cast<int64_t>(longer * static_cast<double>(step) / grown);
}

namespace {

constexpr int kMostSkipped = 10;                 // non-finite steps in a row
constexpr int64_t kMaxSteps = int64_t{1} << 40;  // the numbers that the streams below have room for

// What else a step draws: its iteration cap, and the states that a layer drops.
Rng cap_stream(uint64_t seed, int64_t step) {
  return {seed, uint64_t{1} << 61 | static_cast<uint64_t>(step)};
}
Rng dropout_stream(uint64_t seed, int64_t step, uint64_t layer) {
  return {seed, uint64_t{1} << 60 | layer << 40 | static_cast<uint64_t>(step)};
}

}  // namespace

const TrainOptions& check(const TrainOptions& options) {
  require<ValueError>(options.steps >= 1 && options.batch_size >= 1 && options.length >= 1, "train",
                      "steps, batch size and length must be at least 1", options.steps,
                      options.batch_size, options.length);
  require<ValueError>(options.steps <= kMaxSteps, "train", "there must be at most 2^40 steps",
                      options.steps);
  check_batch("train", options.batch_size, options.length);
  const auto lr = static_cast<real>(options.lr);  // of which the optimiser makes its step
  require<ValueError>(lr > 0 && std::isfinite(lr) && options.clip > 0 && options.warmup >= 0,
                      "train", "lr and clip must be positive and warm-up not negative", options.lr,
                      options.clip, options.warmup);
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
  check_state_dropout(options.state_dropout);
  return options;
}

void with_shortage_named(std::string_view tag, int64_t sequences, int64_t length,
                         const std::function<void()>& work) {
  const auto refuse = [&](const char* what) {
    const double bytes = static_cast<double>(sequences) * (static_cast<double>(length) + 1) * 4;
    require<MemoryError>(
        false, tag,
        "there must be memory for it: sequences, length, bytes of tokens and what failed",
        sequences, length, bytes, what);
  };
  try {
    work();
  } catch (const MemoryError& error) {
    refuse(error.what());
  } catch (const std::bad_alloc& error) {
    refuse(error.what());
  }
}

namespace {

// What kept a step from being taken, for the error message. Values first: one that is not finite
// spoils the gradients of all.
std::string why_not_taken(SequenceModel& model, double loss) {
  const auto parameters = model.parameters();
  for (const auto& [path, parameter] : parameters)
    if (!std::isfinite(max_abs(parameter->value))) return path;
  for (const auto& [path, parameter] : parameters)
    if (parameter->gradient.defined() && !std::isfinite(max_abs(parameter->gradient)))
      return "the gradient of " + path;
  if (!std::isfinite(loss)) return "the loss";
  for (const auto& [path, parameter] : parameters)
    if (parameter->gradient.defined()) return "the squares of the gradients";
  return "no gradient at all";
}

std::vector<ImplicitLayer*> fixed_points(const SequenceModel& model) {
  std::vector<ImplicitLayer*> found;
  for (Layer* layer : model.layers())
    if (auto* fixed_point = dynamic_cast<ImplicitLayer*>(layer)) found.push_back(fixed_point);
  return found;
}

Solves read_solves(std::span<const SolveReport> records) {
  Solves solves;
  int layers = 0;
  for (const SolveReport& record : records) {
    const FixedPointReport report = record.read();
    ++layers;
    solves.iterations_mean += (report.mean_iterations() - solves.iterations_mean) / layers;
    solves.iterations_max = std::max(solves.iterations_max, report.max_iterations());
    solves.residual_max = larger_or_nan<double>(report.max_residual(), solves.residual_max);
    solves.unconverged += report.unconverged();
  }
  return solves;
}

std::vector<SolveReport> solves_of(const SequenceModel& model) {
  std::vector<SolveReport> reports;
  for (const Layer* layer : model.layers())
    if (const SolveReport report = layer->solve_report(); report.residual.defined())
      reports.push_back(report);
  return reports;
}
std::vector<SolveReport> adjoints_of(const SequenceModel& model) {
  std::vector<SolveReport> reports;
  for (const ImplicitLayer* layer : fixed_points(model))
    reports.push_back(layer->adjoint_solve_report());
  return reports;
}

}  // namespace

Solves last_solves(const SequenceModel& model) { return read_solves(solves_of(model)); }

void forget_solves(const SequenceModel& model) {
  for (ImplicitLayer* layer : fixed_points(model)) layer->memory = {};
}

Training::Training(SequenceModel& model, const Task& task, const Context& context,
                   const TrainOptions& options)
    : model_(model),
      task_(task),
      context_(context),
      host_(Context::cpu({.threads = context.threads()})),
      options_(check(options)),
      schedule_{options.lr, options.warmup, options.steps, options.decline},
      optimiser_(model.parameters(), options.adamw) {}

void Training::go_on(int64_t steps, int64_t skipped, double seconds) {
  last_ = {.step = steps, .seconds = seconds, .skipped = skipped};
}

// The batch, where the step will find it.
void Training::prepare(const Batch& batch) {
  Repeated& at = repeated_;
  require(
      batch.targets.shape() == batch.tokens.shape() && batch.mask.shape() == batch.tokens.shape(),
      "train", "tokens, targets and mask must have one shape", batch.tokens.shape(),
      batch.targets.shape(), batch.mask.shape());
  if (at.times == 0 || at.batch.tokens.shape() != batch.tokens.shape()) {
    at = {};
    at.batch = batch.on(context_);
    for (size_t i = 0; i < fixed_points(model_).size(); ++i)
      at.masks.emplace_back(context_, batch.tokens.shape());
    return;
  }
  const auto load = [&](const auto& from, const auto& to) {
    const auto values = from.to_vector();
    const auto bytes = static_cast<int64_t>(std::span(values).size_bytes());
    launch(context_, FromHost{.from = values.data(), .to = to.data(), .bytes = bytes});
  };
  load(batch.tokens, at.batch.tokens);
  load(batch.targets, at.batch.targets);
  load(batch.mask, at.batch.mask);
}

Training::Surroundings Training::surroundings() const {
  Surroundings now;
  for (const auto& [path, parameter] : model_.parameters())
    now.parameters.push_back(parameter->value.data());
  for (const ImplicitLayer* layer : fixed_points(model_)) now.solvers.push_back(layer->solver);
  return now;
}

bool Training::capturable(std::span<const Conditions> on) const {
  const std::vector<Layer*> layers = model_.layers();
  for (size_t i = 0; i < layers.size(); ++i)
    if (!layers[i]->capturable(on[i])) return false;
  return can_capture(context_) && options_.iteration_cap.shape == 0;
}

void Training::run(std::span<const Conditions> on) {
  Repeated& at = repeated_;
  if (++at.times == 2 && capturable(on)) record(on);
  if (at.graph != nullptr && at.surroundings == surroundings()) {
    between_steps_ = false;
    return at.graph->replay();
  }
  at.graph.reset();
  at.computed = {};  // before memory is asked for
  at.computed = compute(at.batch, on);
}

// Where it turns out that a step waits, or that a graph with memory of its own has no room, steps
// go on as they are.
void Training::record(std::span<const Conditions> on) {
  Repeated& at = repeated_;
  at.computed = {};
  context_.memory().trim();
  at.surroundings = surroundings();
  try {
    at.graph = capture_graph(context_, [&] { at.computed = compute(at.batch, on); });
  } catch (const UsageError&) {
  } catch (const MemoryError&) {
  }
}

Training::Computed Training::compute(const Batch& batch, std::span<const Conditions> on) {
  // None is left over, whatever becomes of this step.
  const auto parameters = model_.parameters();
  for (const auto& [path, parameter] : parameters) parameter->gradient = Tensor();
  Computed computed;
  Tape tape(context_);
  std::vector<Var> more;
  std::vector<Conditions> with_losses(on.begin(), on.end());
  for (Conditions& each : with_losses) each.losses = &more;
  const Var logits = model_.forward(tape, batch.tokens, with_losses);
  Var loss = masked_cross_entropy(logits, batch.targets, batch.mask);
  for (const Var& part : more) loss = add(loss, part);
  computed.loss = loss.value();
  computed.answers = argmax(logits.value());
  computed.solves = solves_of(model_);
  tape.backward(loss);
  computed.adjoints = adjoints_of(model_);
  between_steps_ = false;
  optimiser_.enqueue(computed.loss);
  for (const auto& [path, parameter] : parameters)
    computed.gradients.push_back(std::exchange(parameter->gradient, Tensor()));
  return computed;
}

const StepMetrics& Training::step() {
  with_shortage_named("train", options_.batch_size, length_at(options_, last_.step),
                      [&] { last_ = take_step(); });
  between_steps_ = true;
  return last_;
}

// For each layer. Masks of states are drawn into the memory of the last ones.
std::vector<Conditions> Training::conditions(int64_t step) const {
  const IterationCap& cap = options_.iteration_cap;
  Rng rng = cap_stream(options_.seed, step);
  const int64_t most = cap.shape > 0 ? draw_iteration_cap(cap.shape, cap.scale, rng) : cap.fixed;
  std::vector<Conditions> all;
  size_t fixed_points = 0;
  for (const Layer* layer : model_.layers()) {
    Conditions& on = all.emplace_back(Conditions{.training = true, .iteration_cap = most});
    const auto* fixed_point = dynamic_cast<const ImplicitLayer*>(layer);
    if (fixed_point == nullptr) continue;
    const size_t i = fixed_points++;
    if (!fixed_point->has_states() || options_.state_dropout == 0) continue;
    on.state_mask = repeated_.masks[i];
    draw_state_mask(options_.state_dropout, dropout_stream(options_.seed, step, i), on.state_mask);
  }
  return all;
}

StepMetrics Training::take_step() {
  const auto start = std::chrono::steady_clock::now();
  const int64_t step = last_.step;  // counted from 0
  const Batch batch = task_.sample(host_, training_stream(options_.seed, step), options_.batch_size,
                                   length_at(options_, step));
  StepMetrics metrics{.step = step + 1, .lr = schedule_(step), .skipped = last_.skipped};
  prepare(batch);
  optimiser_.prepare(metrics.lr, options_.clip);
  run(conditions(step));
  read(repeated_.computed, batch, metrics);

  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  tokens_ += static_cast<double>(batch.tokens.elements());
  seconds_ += spent;
  metrics.seconds = last_.seconds + spent;
  metrics.tokens_per_second = tokens_ / seconds_;
  return metrics;
}

void Training::read(const Computed& computed, const Batch& batch, StepMetrics& metrics) {
  metrics.loss = computed.loss.to_vector().front();
  Mean right;
  for (const Score& score : scores(computed.answers, batch))
    right.add({.sum = double(score.right), .weight = double(score.counted)});
  metrics.accuracy = right.value();
  const Solves solves = read_solves(computed.solves);
  metrics.iterations_mean = solves.iterations_mean;
  metrics.iterations_max = solves.iterations_max;
  metrics.residual_max = solves.residual_max;
  metrics.unconverged = solves.unconverged;
  const Solves adjoints = read_solves(computed.adjoints);
  metrics.adjoint_iterations_mean = adjoints.iterations_mean;
  metrics.adjoint_iterations_max = adjoints.iterations_max;
  metrics.adjoint_residual_max = adjoints.residual_max;
  metrics.adjoint_unconverged = adjoints.unconverged;
  const AdamW::Outcome outcome = optimiser_.finish();
  metrics.grad_norm = outcome.gradient_norm;
  if (outcome.taken) {
    skipped_in_a_row_ = 0;
    return;
  }
  between_steps_ = true;
  const auto parameters = model_.parameters();
  for (size_t i = 0; i < parameters.size(); ++i)
    parameters[i].parameter->gradient = computed.gradients[i];
  std::string culprit = why_not_taken(model_, metrics.loss);
  if (metrics.adjoint_unconverged > 0)
    culprit += "; sequences whose exact gradient did not converge: " +
               std::to_string(metrics.adjoint_unconverged);
  for (const auto& [path, parameter] : parameters) parameter->gradient = Tensor();
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
