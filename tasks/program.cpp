#include <fmt/format.h>
#include <fprnn/core/file.h>
#include <fprnn/models/run_checkpoints.h>
#include <fprnn/tasks/evaluate.h>
#include <fprnn/tasks/interrupt.h>
#include <fprnn/tasks/program.h>
#include <fprnn/tasks/progress.h>
#include <fprnn/tasks/report.h>
#include <fprnn/tasks/run_directory.h>
#include <fprnn/tasks/svg.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <optional>

namespace fprnn {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kMaxConfig = 1 << 20;  // bytes
constexpr int kKeptCheckpoints = 3;
// What a training must agree on with the checkpoint that it goes on from.
const std::initializer_list<Decides> kOfTraining = {Decides::model, Decides::solver,
                                                    Decides::training};

void stop_if_interrupted() {
  if (interrupted()) throw Interrupted();
}

Glyphs terminal_glyphs() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string_view locale = value;
    const bool utf8 = locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos;
    return utf8 ? Glyphs::unicode : Glyphs::ascii;
  }
  return Glyphs::ascii;
}

void print_report(std::span<const RunRecord> runs) {
  fmt::print("\n{}\n{}", report_table(runs), report_chart(runs, terminal_glyphs()));
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// A run directory's last checkpoint, or the checkpoint itself.
std::string checkpoint_of(const std::string& path) {
  return fs::exists(path + "/LATEST") ? latest_checkpoint(path) : path;
}

std::string run_by_time() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d-%H%M%S", std::localtime(&now));
  return std::string("runs/") + text;
}

// One invocation, with everything that its settings say.
class Invocation {
 public:
  Invocation(const TaskProgram& program, const Settings& settings, const Options& options)
      : program_(program), settings_(settings), options_(options) {}

  void compare() const;
  void evaluate_alone();
  void train();

 private:
  void open();
  Evaluation evaluation(const StepMetrics& trained);
  RunDirectory resume(Training& training, const std::string& path);
  void train_on(Training& training, RunDirectory& run);
  void save(Training& training, const RunDirectory& run);
  bool is_due(int64_t every, int64_t step) const { return every > 0 && step % every == 0; }

  const TaskProgram& program_;
  const Settings& settings_;
  const Options& options_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<SequenceModel> model_;
  std::optional<Context> context_;
  int64_t saved_ = -1;  // the step of the last checkpoint
};

void Invocation::compare() const {
  std::vector<RunRecord> runs;
  for (const std::string& folder : split(options_.run.compare)) runs.push_back(read_run(folder));
  print_report(runs);
  if (options_.run.out.empty()) return;
  fs::create_directories(options_.run.out);
  const std::string path = options_.run.out + "/report.svg";
  replace_file(path, report_svg(runs));
  fmt::print("\n{}\n", path);
}

void Invocation::open() {
  context_ = open_device(options_.run);
  fmt::print("device {}\n", describe(*context_));
  task_ = program_.task();
  Rng rng = initial_stream(options_.train.seed);
  model_ = make_model(options_.model, solver_options(options_.solver), task_->vocabulary(),
                      {*context_, rng});
}

Evaluation Invocation::evaluation(const StepMetrics& trained) {
  const bool solves = options_.model.model != "mamba";
  SolverOptions solver = solver_options(options_.solver);
  const bool cpu = context_->device() == DeviceKind::cpu;  // there auto is sequential
  if (cpu && solver.solver == Solver::automatic) solver.solver = Solver::sequential;
  Evaluation evaluation{.task = program_.name(),
                        .group = program_.group(),
                        .model = options_.model.model,
                        .parameters = model_->parameter_count(),
                        .device = std::string(name_of(context_->device())),
                        .solver = solves ? std::string(name_of(solver.solver)) : "",
                        .gradient = solves ? name_of(solver.gradient) : "",
                        .train_length = options_.train.train_length,
                        .steps = trained.step,
                        .train_seconds = trained.seconds};
  for (const int64_t length : options_.run.eval_lengths)
    evaluation.lengths.push_back(evaluate(*model_, *task_, *context_, options_.train.seed, length,
                                          options_.run.eval_sequences, stop_if_interrupted));
  return evaluation;
}

void Invocation::evaluate_alone() {
  const std::string checkpoint = checkpoint_of(options_.run.evaluate);
  open();
  // How it was trained may differ, the model may not.
  KeyValues expected = read_checkpoint_state(checkpoint).configuration;
  for (const auto& [key, value] : settings_.values({Decides::model})) expected[key] = value;
  const CheckpointState state = load_checkpoint(checkpoint, *model_, nullptr, &expected);
  fmt::print("{} of step {}\n", checkpoint, state.step);
  const RunRecord record{.name = fs::path(options_.run.evaluate).filename(),
                         .evaluation = evaluation({.step = state.step, .seconds = state.seconds})};
  print_report({&record, 1});
  if (options_.run.out.empty()) return;
  fs::create_directories(options_.run.out);
  replace_file(options_.run.out + "/eval.json", to_json(record.evaluation));
  replace_file(options_.run.out + "/report.svg", report_svg({&record, 1}));
}

void Invocation::save(Training& training, const RunDirectory& run) {
  const StepMetrics& last = training.last();
  if (saved_ == last.step) return;
  save_run_checkpoint(run.path(), *model_, training.optimiser(),
                      {.step = last.step,
                       .seed = options_.train.seed,
                       .cursor = last.step,
                       .skipped = last.skipped,
                       .seconds = last.seconds,
                       .configuration = settings_.values(kOfTraining)},
                      kKeptCheckpoints);
  saved_ = last.step;
}

// Until the end, the time limit or an interrupt, which throws once the checkpoint is written.
void Invocation::train_on(Training& training, RunDirectory& run) {
  const RunSettings& r = options_.run;
  Progress progress(options_.train.steps, training.last().step);
  const double limit = r.time_limit > 0 ? training.last().seconds + r.time_limit : INFINITY;
  while (!training.finished() && training.last().seconds < limit && !interrupted()) {
    const StepMetrics& metrics = training.step();
    progress.show(metrics);
    if (is_due(r.log_every, metrics.step) || training.finished()) run.log(metrics);
    if (is_due(r.checkpoint_every, metrics.step)) save(training, run);
    if (is_due(r.eval_every, metrics.step) && !training.finished()) {
      progress.end();
      const RunRecord record{.name = "", .evaluation = evaluation(metrics)};
      run.write(record.evaluation);
      fmt::print("{}", report_table({&record, 1}));
    }
  }
  progress.end();
  save(training, run);
  stop_if_interrupted();
}

// Goes on from the last checkpoint of a run. One that ended before its first starts again.
RunDirectory Invocation::resume(Training& training, const std::string& path) {
  if (!fs::exists(path + "/LATEST")) {
    replace_file(path + "/config.json", settings_.to_json());
    return RunDirectory::go_on(path, 0);
  }
  const KeyValues expected = settings_.values(kOfTraining);
  const CheckpointState state =
      load_checkpoint(latest_checkpoint(path), *model_, &training.optimiser(), &expected);
  training.go_on(state.step, state.skipped, state.seconds);
  saved_ = state.step;
  return RunDirectory::go_on(path, state.step);
}

void Invocation::train() {
  const RunSettings& r = options_.run;
  const bool resumes = !r.resume.empty();
  open();
  Training training(*model_, *task_, *context_, train_options(options_.train));
  const std::string path = resumes ? r.resume : r.out.empty() ? run_by_time() : r.out;
  RunDirectory run =
      resumes ? resume(training, path) : RunDirectory::create(path, settings_.to_json());
  fmt::print("{} on {}, {} parameters, length {}, {} steps{}, writing {}\n", options_.model.model,
             program_.group(), model_->parameter_count(), options_.train.train_length,
             options_.train.steps,
             resumes ? fmt::format(" from step {}", training.last().step) : "", path);
  train_on(training, run);
  if (!training.finished())
    fmt::print("stopped by the time limit after {} of {} steps; --resume {} goes on\n",
               training.last().step, options_.train.steps, path);
  run.write(evaluation(training.last()));
  const RunRecord record = read_run(path);
  run.write_report(report_svg({&record, 1}));
  print_report({&record, 1});
  fmt::print("\n{0}/report.svg, {0}/eval.json\n", path);
}

// Of the settings that say what to do this time.
void check_actions(const RunSettings& run) {
  const int actions = !run.resume.empty() + !run.evaluate.empty() + !run.compare.empty();
  require<UsageError>(actions <= 1, "command line",
                      "only one of --resume, --evaluate and --compare can be asked for");
  require<UsageError>(run.resume.empty() || run.out.empty(), "command line",
                      "--resume goes on in its own folder, without --out");
}

void read_files(const RunSettings& run, Settings& settings) {
  check_actions(run);
  if (!run.resume.empty())
    settings.set_json(read_file(run.resume + "/config.json", kMaxConfig),
                      run.resume + "/config.json", Says::run);
  if (!run.evaluate.empty()) {
    const std::string checkpoint = checkpoint_of(run.evaluate);
    settings.set(read_checkpoint_state(checkpoint).configuration, checkpoint);
  }
  if (!run.config.empty()) settings.set_json(read_file(run.config, kMaxConfig), run.config);
}

}  // namespace

int run_program(int argc, const char* const* argv, TaskProgram& program, Options options) {
  catch_interrupts();
  try {
    Settings settings;
    program.add_to(settings);
    add_to(settings, options);
    const CommandLine command{.about = program.about(),
                              .presets = program.presets(),
                              .preset = options.run.preset,
                              .read_files = [&](Settings& s) { read_files(options.run, s); }};
    if (!read_command_line(argc, argv, command, settings)) return 0;
    check(options, settings);
    Invocation invocation(program, settings, options);
    if (!options.run.compare.empty())
      invocation.compare();
    else if (!options.run.evaluate.empty())
      invocation.evaluate_alone();
    else
      invocation.train();
    return 0;
  } catch (const Interrupted&) {
    fmt::print("interrupted\n");
    return kInterruptedExit;
  } catch (const UsageError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const ValueError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}

}  // namespace fprnn
