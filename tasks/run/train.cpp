#include <fprnn/core/vector.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/tasks/run/train.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <numbers>

namespace fprnn {

Rng evaluation_stream(uint64_t seed, int64_t length) {
  return {seed, uint64_t{1} << 63 | static_cast<uint64_t>(length)};
}
Rng validation_stream(uint64_t seed, int64_t length) {
  return {seed, uint64_t{5} << 61 | static_cast<uint64_t>(length)};
}
Rng initial_stream(uint64_t seed) { return {seed, uint64_t{1} << 62}; }

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

namespace {

constexpr int kMostSkipped = 10;  // non-finite steps in a row
constexpr int64_t kMostAccumulated = 1 << 16;
constexpr int64_t kMaxSteps = int64_t{1} << 40;  // the numbers that the streams below have room for

double state_dropout_at(const TrainOptions& options, int64_t step) {
  const auto& [first, last] = options.state_dropout;
  return first + (last - first) * static_cast<double>(step) / static_cast<double>(options.steps);
}

// What is drawn for a batch besides: its iteration cap, and what a layer drops.
Rng cap_stream(uint64_t seed, int64_t number) {
  return {seed, uint64_t{1} << 61 | static_cast<uint64_t>(number)};
}
Rng dropout_stream(uint64_t seed, int64_t number, uint64_t layer) {
  return {seed, uint64_t{1} << 60 | layer << 40 | static_cast<uint64_t>(number)};
}

}  // namespace

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

}  // namespace

Training::Training(SequenceModel& model, const Task& task, const Context& context,
                   const TrainOptions& options)
    : model_(model),
      task_(task),
      unit_(task.unit()),
      context_(context),
      host_(Context::cpu({.threads = context.threads()})),
      options_(check(options)),
      schedule_{options.lr, options.warmup, options.steps, options.decline, options.end_lr},
      optimiser_(model.parameters(), options.adamw) {
  require<UsageError>(!task.carries_state() || options.curriculum.from == 0, "train",
                      "a task whose rows go on from batch to batch has no curriculum");
  task.check_lanes(options.batch_size, options.length);
}

void Training::go_on(int64_t steps, int64_t skipped, double seconds, SequenceModel::State carried) {
  last_ = {.step = steps, .seconds = seconds, .skipped = skipped};
  carried_ = std::move(carried);
}

SequenceModel::State Training::carried_shapes() {
  SequenceModel::State state;
  NoGrad tape(context_);
  const std::vector<Conditions> training(model_.layers().size(), {.training = true});
  const IntTensor tokens(context_, {options_.batch_size, 1},
                         std::vector<int32_t>(options_.batch_size));
  model_.forward(tape, tokens, state, training);
  return state;
}

namespace {

Shape shape_of(const Batch& batch) {
  const Shape& shape = batch.tokens.shape();
  require(batch.targets.shape() == shape && batch.mask.shape() == shape, "train",
          "tokens, targets and mask must have one shape", shape, batch.targets.shape(),
          batch.mask.shape());
  return shape;
}

}  // namespace

// The batches, where the step will find them.
void Training::prepare(const std::vector<Batch>& batches) {
  Repeated& at = repeated_;
  if (!std::ranges::equal(batches, at.parts, {}, shape_of,
                          [](const Part& part) { return part.batch.tokens.shape(); })) {
    at = {};
    for (const Batch& batch : batches) {
      Part& part = at.parts.emplace_back(Part{.batch = batch.on(context_)});
      const Shape& shape = batch.tokens.shape();
      if (options_.state_dropout.first > 0 || options_.state_dropout.last > 0)
        for (size_t i = 0; i < fixed_points(model_).size(); ++i)
          part.state_masks.emplace_back(context_, shape);
      if (options_.dropout > 0)
        for (size_t i = 0; i < model_.layers().size(); ++i)
          part.output_masks.emplace_back(context_, shape.appended(model_.d_model()));
    }
    return;
  }
  const auto load = [&](const auto& from, const auto& to) {
    const auto values = from.to_vector();
    const auto bytes = static_cast<int64_t>(std::span(values).size_bytes());
    launch(context_, FromHost{.from = values.data(), .to = to.data(), .bytes = bytes});
  };
  for (size_t i = 0; i < batches.size(); ++i) {
    Batch& place = at.parts[i].batch;
    load(batches[i].tokens, place.tokens);
    load(batches[i].targets, place.targets);
    load(batches[i].mask, place.mask);
    place.starts = batches[i].starts;
  }
}

Training::Surroundings Training::surroundings() const {
  Surroundings now;
  for (const auto& [path, parameter] : model_.parameters())
    now.parameters.push_back(parameter->value.data());
  for (const ImplicitLayer* layer : fixed_points(model_)) now.solvers.push_back(layer->solver);
  return now;
}

bool Training::capturable() const {
  const std::vector<Layer*> layers = model_.layers();
  for (size_t i = 0; i < layers.size(); ++i)
    if (!layers[i]->capturable(repeated_.parts.front().on[i])) return false;
  return can_capture(context_) && options_.iteration_cap.shape == 0 && !task_.carries_state();
}

void Training::run() {
  Repeated& at = repeated_;
  if (++at.times == 2 && capturable()) record();
  if (at.graph != nullptr && at.surroundings == surroundings()) {
    between_steps_ = false;
    return at.graph->replay();
  }
  at.graph.reset();
  at.computed = {};  // before memory is asked for
  at.computed = compute();
}

// Where it turns out that a step waits, or that a graph with memory of its own has no room, steps
// go on as they are.
void Training::record() {
  Repeated& at = repeated_;
  at.computed = {};
  context_.memory().trim();
  at.surroundings = surroundings();
  try {
    at.graph = capture_graph(context_, [&] { at.computed = compute(); });
  } catch (const UsageError&) {
  } catch (const MemoryError&) {
  }
}

Training::Computed Training::compute() {
  // None is left over, whatever becomes of this step.
  const auto parameters = model_.parameters();
  for (const auto& [path, parameter] : parameters) parameter->gradient = Tensor();
  Computed computed;
  computed.carried = carried_;
  for (const Part& part : repeated_.parts) add_part(part, computed);
  between_steps_ = false;
  optimiser_.enqueue(computed.loss);
  for (const auto& [path, parameter] : parameters)
    computed.gradients.push_back(std::exchange(parameter->gradient, Tensor()));
  return computed;
}

// One batch's share of loss and gradients.
void Training::add_part(const Part& part, Computed& computed) {
  const Batch& batch = part.batch;
  Tape tape(context_);
  std::vector<Var> more;
  std::vector<Conditions> with_losses = part.on;
  for (Conditions& each : with_losses) each.losses = &more;
  if (batch.starts) computed.carried.clear();
  const Var logits = task_.carries_state()
                         ? model_.forward(tape, batch.tokens, computed.carried, with_losses)
                         : model_.forward(tape, batch.tokens, with_losses);
  Var loss = masked_cross_entropy(logits, batch.targets, batch.mask, options_.label_smoothing);
  for (const Var& each : more) loss = add(loss, each);
  if (options_.accumulate > 1) loss = affine(loss, real(1) / real(options_.accumulate), 0);
  computed.loss =
      computed.loss.defined() ? add(Var(computed.loss), Var(loss.value())).value() : loss.value();
  computed.answers.push_back(argmax(logits.value()));
  for (SolveReport& report : solves_of(model_)) computed.solves.push_back(std::move(report));
  tape.backward(loss);
  for (SolveReport& report : adjoints_of(model_)) computed.adjoints.push_back(std::move(report));
}

const StepMetrics& Training::step() {
  with_shortage_named("train", options_.batch_size, length_at(options_, last_.step),
                      [&] { last_ = take_step(); });
  between_steps_ = true;
  return last_;
}

// For each layer. Masks are drawn into the memory of the last ones.
void Training::draw_conditions(int64_t number, Part& part) const {
  const IterationCap& cap = options_.iteration_cap;
  Rng rng = cap_stream(options_.seed, number);
  const int64_t most = cap.shape > 0 ? draw_iteration_cap(cap.shape, cap.scale, rng) : cap.fixed;
  const double state_dropout = state_dropout_at(options_, number / options_.accumulate);
  part.on.clear();
  size_t fixed_points = 0;
  for (const Layer* layer : model_.layers()) {
    const size_t place = part.on.size();
    Conditions& on = part.on.emplace_back(Conditions{.training = true, .iteration_cap = most});
    if (!part.output_masks.empty()) {
      on.output_mask = part.output_masks[place];
      draw_output_mask(options_.dropout, dropout_stream(options_.seed, number, kMaxLayers + place),
                       on.output_mask);
    }
    const auto* fixed_point = dynamic_cast<const ImplicitLayer*>(layer);
    if (fixed_point == nullptr) continue;
    const size_t i = fixed_points++;
    if (!fixed_point->has_states() || part.state_masks.empty()) continue;
    on.state_mask = part.state_masks[i];
    draw_state_mask(state_dropout, dropout_stream(options_.seed, number, i), on.state_mask);
  }
}

StepMetrics Training::take_step() {
  const auto start = std::chrono::steady_clock::now();
  const int64_t step = last_.step;  // counted from 0
  const int64_t first = step * options_.accumulate;
  std::vector<Batch> batches;
  for (int64_t i = 0; i < options_.accumulate; ++i)
    batches.push_back(task_.training_batch(host_, options_.seed, first + i, options_.batch_size,
                                           length_at(options_, step)));
  StepMetrics metrics{.step = step + 1, .lr = schedule_(step), .skipped = last_.skipped};
  prepare(batches);
  optimiser_.prepare(metrics.lr, options_.clip);
  for (int64_t i = 0; i < options_.accumulate; ++i) draw_conditions(first + i, repeated_.parts[i]);
  run();
  read(repeated_.computed, batches, metrics);

  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const Batch& batch : batches) tokens_ += static_cast<double>(batch.tokens.elements());
  seconds_ += spent;
  metrics.seconds = last_.seconds + spent;
  metrics.tokens_per_second = tokens_ / seconds_;
  say_in_units(batches, metrics);
  return metrics;
}

void Training::say_in_units(const std::vector<Batch>& batches, StepMetrics& metrics) {
  if (!unit_) return;
  double targets = 0, units = 0;
  for (const Batch& batch : batches) {
    for (const real weight : batch.mask.to_vector()) targets += weight;
    units += static_cast<double>(unit_->count(batch));
  }
  units_ += units;
  metrics.in_units = {
      {"bits_per_" + unit_->name, metrics.loss * targets / (units * std::numbers::ln2)},
      {unit_->name + "s_per_second", units_ / seconds_}};
}

void Training::read(const Computed& computed, const std::vector<Batch>& batches,
                    StepMetrics& metrics) {
  metrics.loss = computed.loss.to_vector().front();
  Mean right;
  for (size_t i = 0; i < batches.size(); ++i)
    for (const Score& score : scores(computed.answers[i], batches[i]))
      right.add({.sum = double(score.right), .weight = double(score.counted)});
  metrics.accuracy = right.value();
  SolveTally solves, of_adjoints;
  solves.add(computed.solves, batches.size());
  solves.write_to(metrics, model_);
  of_adjoints.add(computed.adjoints, batches.size());
  const Solves adjoints = of_adjoints.total();
  metrics.adjoint_iterations_mean = adjoints.iterations_mean;
  metrics.adjoint_iterations_max = adjoints.iterations_max;
  metrics.adjoint_residual_max = adjoints.residual_max;
  metrics.adjoint_unconverged = adjoints.unconverged;
  const AdamW::Outcome outcome = optimiser_.finish();
  metrics.grad_norm = outcome.gradient_norm;
  if (outcome.taken) {
    skipped_in_a_row_ = 0;
    carried_ = computed.carried;
    return;
  }
  between_steps_ = true;
  // Those that go on next must not do so from a sequence before theirs.
  if (std::ranges::any_of(batches, &Batch::starts)) carried_.clear();
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
