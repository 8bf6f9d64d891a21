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

constexpr int kMostSkipped = 10;  // non-finite steps in a row

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
    for (const Batch& batch : batches)
      at.parts.push_back(
          {batch.on(context_), DrawnConditions(model_, options_, context_, batch.tokens.shape())});
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
    if (!layers[i]->capturable(repeated_.parts.front().drawn.of_layers()[i])) return false;
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
  std::vector<Conditions> with_losses = part.drawn.of_layers();
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
  for (int64_t i = 0; i < options_.accumulate; ++i) repeated_.parts[i].drawn.draw(first + i);
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
