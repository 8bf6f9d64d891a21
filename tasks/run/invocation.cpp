#include <fmt/format.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/solvers/automatic.h>
#include <fprnn/tasks/run/compare.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/run/interrupt.h>
#include <fprnn/tasks/run/invocation.h>
#include <fprnn/tasks/run/predict.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

namespace {

constexpr int kKeptCheckpoints = 3;
// What a training must agree on with the checkpoint that it goes on from.
const std::initializer_list<Decides> kOfTraining = {Decides::model, Decides::solver,
                                                    Decides::training};

// A model that has broken down is evaluated as any other, but not without a word.
void warn_of_not_finite(Module& model, const std::string& checkpoint) {
  for (const auto& [path, parameter] : model.parameters())
    if (!std::isfinite(max_abs(parameter->value)))
      return print_error(
          fmt::format("warning: not all weights are finite in {}: {}", checkpoint, path));
}

// How a model is run otherwise than it was trained.
KeyTexts changes_from(const KeyValues& trained, const Settings& settings) {
  const KeyValues now = settings.values({Decides::model, Decides::solver});
  const auto value_in = [](const KeyValues& values, const std::string& key) {
    const auto found = values.find(key);
    return found == values.end() ? std::string() : found->second;
  };
  KeyTexts changes;
  for (const Setting& setting : settings.all())
    if (setting.is_in_use() && (setting.decides == Decides::solver || setting.fits_any) &&
        value_in(now, setting.key) != value_in(trained, setting.key))
      changes.emplace_back(setting.key, text_of(setting));
  return changes;
}

// The best weights of a run, which are those after the step; NaN where its metrics.jsonl has no loss of it.
Best best_of(const std::string& run, int64_t step) {
  const std::optional<Best> logged = logged_best(run, step);
  return logged && logged->step == step ? *logged : Best{step, std::nan("")};
}

// The parts of a checkpoint must be of one step.
void check_step(const CheckpointState& state, const AdamW& optimiser, uint64_t seed,
                const std::string& checkpoint) {
  const int64_t taken = optimiser.state().steps;
  require<FormatError>(
      state.seed == seed && state.stream == 0, "checkpoint",
      "the seed must be the run's and its stream 0: checkpoint, seed, the run's and stream",
      checkpoint, state.seed, seed, state.stream);
  require<FormatError>(state.cursor == state.step, "checkpoint",
                       "step and cursor must be equal: checkpoint and both", checkpoint, state.step,
                       state.cursor);
  require<FormatError>(
      taken == state.step - state.skipped, "checkpoint",
      "the optimiser's steps must be those not skipped: checkpoint, its steps, all and skipped",
      checkpoint, taken, state.step, state.skipped);
}

}  // namespace

std::string checkpoint_of(const std::string& path) {
  const std::vector<uint64_t> seeds = seeds_in(path);
  require<UsageError>(seeds.empty(), "run directory", "there are seeds in it: name one of them",
                      path, seeds.empty() ? "" : seed_folder(path, seeds.front()));
  if (has_best(path)) return best_checkpoint(path);
  if (has_checkpoint(path)) return latest_checkpoint(path);
  require<UsageError>(!fs::exists(path + "/config.json"), "run directory",
                      "there is no checkpoint in it yet", path);
  return path;
}

std::vector<std::string> runs_of(const std::string& path) {
  const std::vector<uint64_t> seeds = seeds_in(path);
  if (seeds.empty()) return {path};
  std::vector<std::string> runs;
  for (const uint64_t seed : seeds)
    if (const std::string run = seed_folder(path, seed); has_checkpoint(run)) runs.push_back(run);
  require<UsageError>(!runs.empty(), "run directory",
                      "there is no checkpoint in any of its seeds yet", path);
  return runs;
}

std::string run_by_time() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d-%H%M%S", std::localtime(&now));
  return std::string("runs/") + text;
}

// On standard output, or on standard error where that is for what a model answers.
void Invocation::say(const std::string& line) const {
  program_.has_use() || !options_.run.predict.empty() ? print_error(line) : print(line + "\n");
}

void Invocation::open() {
  context_ = context_of(options_);
  const bool trains = options_.run.evaluate.empty() && options_.run.predict.empty();
  say("device " + describe(*context_));
  task_ = program_.task();
  if (trains) {
    check_training(*task_, train_options(options_.train));
    data_ = task_->data();
    if (options_.train.keep == "best") task_->validation(options_.train.numbers.length);
  }
  require<UsageError>(
      !task_->carries_state() || !options_.model.any_has(&ModelKind::caches), "model",
      "state cannot be carried through training by one that caches its past", options_.model.model);
  if (!program_.has_use() && options_.run.predict.empty())
    for (const int64_t length : options_.run.eval_lengths) task_->check_examination(length);
  caption_ = metrics_of(*task_).front().caption;
  Rng rng = initial_stream(options_.train.numbers.seed);
  model_ = options_.model.make(task_->vocabulary(), {*context_, rng});
}

Origin Invocation::origin(uint64_t seed) const {
  const BuildInfo build = build_info();
  return {.version = build.version,
          .commit = build.commit,
          .machine = machine_of(*context_),
          .seed = seed};
}

Evaluation Invocation::evaluation(const StepMetrics& trained, uint64_t seed) {
  const bool solves = options_.model.any_has(&ModelKind::solver);
  const SolverOptions solver = solver_options(options_.model.solver);
  Evaluation evaluation{
      .task = program_.name(),
      .settings = own_,
      .model = options_.model.model,
      .parameters = model_->parameter_count(),
      .device = std::string(name_of(context_->device())),
      .solver = solves ? std::string(name_of(resolved(solver.solver, *context_))) : "",
      .gradient = solves ? name_of(solver.gradient) : "",
      .train_length = options_.train.numbers.length,
      .steps = trained.step,
      .train_seconds = trained.seconds,
      .origin = origin(seed),
      .caption = caption_};
  evaluate(*model_, *task_, *context_, seed, options_.run.eval_lengths, options_.run.eval_sequences,
           evaluation);
  // A model that caches its past has no room for a whole text.
  if (!options_.model.any_has(&ModelKind::caches))
    for (const Reading& text : task_->texts())
      evaluation.lengths.push_back(fprnn::evaluate(*model_, *task_, *context_, text));
  return evaluation;
}

// The model's weights. How it was trained may differ, and what they fit anyway; the model may not.
CheckpointState Invocation::load(const std::string& checkpoint) {
  KeyValues expected = read_checkpoint_state(checkpoint).configuration;
  const auto fits_any = [this](const std::string& key) {
    return std::ranges::any_of(settings_.all(), [&](const Setting& setting) {
      return setting.key == key && setting.fits_any;
    });
  };
  for (const auto& [key, value] : settings_.values({Decides::model}))
    if (!fits_any(key)) expected[key] = value;
  const CheckpointState state = load_checkpoint(checkpoint, *model_, nullptr, &expected);
  warn_of_not_finite(*model_, checkpoint);
  return state;
}

void Invocation::predict_lines() {
  const std::string checkpoint = checkpoint_of(options_.run.predict);
  open();
  load(checkpoint);
  predict(*model_, *task_, *context_, stdin, [](const std::string& line) { print(line + "\n"); });
}

CheckpointState Invocation::load_run(const std::string& run) {
  const std::string checkpoint = checkpoint_of(run);
  CheckpointState state = load(checkpoint);
  say(fmt::format("{} of step {}", checkpoint, state.step));
  return state;
}

void Invocation::use_model() {
  open();
  load_run(options_.run.evaluate);
  program_.use(*model_, *context_, options_.train.numbers.seed);
}

// Of a run's best weights as the run itself says it: how long it trained in all, and which it kept.
RunResult Invocation::evaluated(const std::string& run, uint64_t seed) {
  const CheckpointState state = load_run(run);
  const bool best = has_best(run);
  const CheckpointState last =
      best && has_checkpoint(run) ? read_checkpoint_state(latest_checkpoint(run)) : state;
  RunResult record{.name = name_of_run(run),
                   .evaluation = evaluation({.step = last.step, .seconds = last.seconds}, seed)};
  if (best) record.evaluation.kept = kept(best_of(run, state.step));
  record.evaluation.changes = changes_from(state.configuration, settings_);
  return record;
}

// Each as it would be alone.
void Invocation::evaluate_seeds(const std::vector<uint64_t>& seeds) {
  const std::string &out = options_.run.out, &folder = options_.run.evaluate;
  RunGroup group{.name = name_of_run(folder)};
  for (const uint64_t seed : seeds)
    if (const std::string run = seed_folder(folder, seed); has_checkpoint(run))
      group.runs.push_back(evaluated(run, seed));
    else
      group.failed.push_back(seed);
  print_report(RunGroups(&group, 1));
  if (!out.empty()) write_groups(RunDirectory::for_results(out, Wants::evaluation), {&group, 1});
}

void Invocation::evaluate_alone() {
  const std::string &out = options_.run.out, &run = options_.run.evaluate;
  if (!out.empty()) check_unused(out, Wants::evaluation);
  open();
  if (const auto seeds = seeds_in(run); !seeds.empty()) return evaluate_seeds(seeds);
  const RunResult record = evaluated(run, options_.train.numbers.seed);
  print_report({&record, 1});
  if (out.empty()) return;
  const auto results = RunDirectory::for_results(out, Wants::evaluation);
  results.write(record.evaluation);
  results.write_report(report_svg({&record, 1}));
}

CheckpointState Invocation::state_of(const Training& training) const {
  const StepMetrics& last = training.last();
  return {.step = last.step,
          .seed = options_.train.numbers.seed,
          .cursor = last.step,
          .skipped = last.skipped,
          .seconds = last.seconds,
          .data = data_,
          .configuration = settings_.values(kOfTraining)};
}

void Invocation::save(Training& training, const RunDirectory& run) {
  if (saved_ == training.last().step) return;
  save_run_checkpoint(run.path(), *model_, training.optimiser(), state_of(training),
                      kKeptCheckpoints, training.carried());
  saved_ = training.last().step;
}

void Invocation::save_best(Training& training, const RunDirectory& run) {
  save_checkpoint(best_checkpoint(run.path()), *model_, training.optimiser(), state_of(training),
                  training.carried());
}

bool Invocation::is_candidate(const Training& training) const {
  return options_.train.keep == "best" &&
         (training.finished() || is_due(options_.run.eval_every, training.last().step));
}

// Steps until an evaluation is due, the end, the time limit or an interrupt. However it ends, by an
// exception too, the last step is saved then, so that nothing that comes next can lose it.
void Invocation::train_until_due(Training& training, RunDirectory& run, Progress& progress,
                                 double limit) {
  const RunSettings& r = options_.run;
  const TrainOptions& train = options_.train.numbers;
  const HeldInterrupts held;
  StepMetrics metrics;
  try {
    do {
      metrics = training.step();
      if (is_candidate(training))
        metrics.validation_loss =
            validation_loss(*model_, *task_, *context_, train.seed, train.length, r.eval_sequences);
      if (is_due(r.log_every, metrics.step) || training.finished() || metrics.validation_loss)
        run.log(metrics);
      progress.show(metrics);
      if (is_due(r.checkpoint_every, metrics.step)) save(training, run);
    } while (!training.finished() && training.last().seconds < limit && !interrupted() &&
             !is_due(r.eval_every, training.last().step));
  } catch (...) {
    try {
      if (training.between_steps()) save(training, run);
    } catch (const std::exception&) {
    }
    throw;
  }
  // In this order: of a run that is killed in between, metrics.jsonl says of its last checkpoint that it
  // is the best.
  save(training, run);
  if (improve(best_, metrics)) save_best(training, run);
}

// Until the end or the time limit.
void Invocation::train_on(Training& training, RunDirectory& run) {
  const RunSettings& r = options_.run;
  Progress progress(options_.train.numbers.steps, training.last().step);
  const double limit = r.time_limit > 0 ? training.last().seconds + r.time_limit : INFINITY;
  while (!training.finished() && training.last().seconds < limit) {
    train_until_due(training, run, progress, limit);
    progress.end();
    if (interrupted()) throw Interrupted();
    if (training.finished() || !is_due(r.eval_every, training.last().step)) continue;
    const RunResult record{.name = "",
                           .evaluation = evaluation(training.last(), options_.train.numbers.seed)};
    run.write(record.evaluation);
    print(report_table({&record, 1}));
    if (best_)
      print(fmt::format("least validation loss so far: {:.4f}, after step {}\n",
                        best_->validation_loss, best_->step));
  }
}

// Goes on from the last checkpoint of a run. One that ended before its first starts again.
void Invocation::resume(Training& training, RunDirectory& run) {
  if (!has_checkpoint(run.path())) {
    require<UsageError>(!fs::exists(run.file("eval.json")), "run directory",
                        "its checkpoints are gone: train anew with --config and another --out",
                        run.path());
    replace_file(run.file("config.json"), settings_.to_json());
    return run.go_on(0);
  }
  const std::string checkpoint = latest_checkpoint(run.path());
  const KeyValues expected =
      settings_.values(kOfTraining, read_checkpoint_state(checkpoint).configuration);
  SequenceModel::State carried;
  if (training.carried() != nullptr) carried = training.carried_shapes();
  const CheckpointState state =
      load_checkpoint(checkpoint, *model_, &training.optimiser(), &expected,
                      training.carried() != nullptr ? &carried : nullptr);
  require<UsageError>(
      state.data.empty() || state.data == data_, "data",
      "a run must go on with what it was trained on: what that was, and what is there", state.data,
      data_);
  check_step(state, training.optimiser(), options_.train.numbers.seed, checkpoint);
  warn_of_not_finite(*model_, checkpoint);
  training.go_on(state.step, state.skipped, state.seconds, std::move(carried));
  saved_ = state.step;
  run.go_on(state.step);
  best_ = logged_best(run.path());
  if (best_ && best_->step == state.step) save_best(training, run);
}

Evaluation Invocation::final_evaluation(const StepMetrics& last, const std::string& run) {
  const uint64_t seed = options_.train.numbers.seed;
  if (!best_) return evaluation(last, seed);
  load(best_checkpoint(run));
  print(
      fmt::format("the weights after step {} are evaluated, of the least validation loss, {:.4f}\n",
                  best_->step, best_->validation_loss));
  Evaluation result = evaluation(last, seed);
  result.kept = kept(*best_);
  return result;
}

void Invocation::train() {
  const RunSettings& r = options_.run;
  const bool resumes = !r.resume.empty();
  open();
  Training training(*model_, *task_, *context_, train_options(options_.train));
  const std::string path = resumes ? r.resume : r.out.empty() ? run_by_time() : r.out;
  RunDirectory run = resumes ? RunDirectory(path) : RunDirectory::create(path, settings_.to_json());
  if (resumes) resume(training, run);
  run.log(RunStart{training.last().step, origin(options_.train.numbers.seed)});
  const std::string problem = problem_of(own_);
  print(fmt::format("{} on {}, {} parameters, length {}, {} steps{}, writing {}\n",
                    options_.model.model, problem.empty() ? program_.name() : problem,
                    model_->parameter_count(), options_.train.numbers.length,
                    options_.train.numbers.steps,
                    resumes ? fmt::format(" from step {}", training.last().step) : "", path));
  train_on(training, run);
  if (!training.finished())
    print(fmt::format("stopped by the time limit after {} of {} steps; --resume {} goes on\n",
                      training.last().step, options_.train.numbers.steps, path));
  run.write(final_evaluation(training.last(), path));
  const RunResult record = read_run(path);
  run.write_report(report_svg({&record, 1}));
  print_report({&record, 1});
  print(fmt::format("\n{0}/report.svg, {0}/eval.json\n", path));
  if (training.finished()) check_goals(goals_, record.evaluation);
}

}  // namespace fprnn
