#include <fmt/format.h>
#include <fprnn/tasks/run/compare.h>
#include <fprnn/tasks/run/examples.h>
#include <fprnn/tasks/run/interrupt.h>
#include <fprnn/tasks/run/invocation.h>
#include <fprnn/tasks/run/seeds.h>

#include <algorithm>

namespace fprnn {

namespace {

constexpr int64_t kMaxConfig = 1 << 20;  // bytes

// Of the settings that say what to do this time.
void check_actions(const RunSettings& run) {
  const int actions = !run.resume.empty() + !run.evaluate.empty() + !run.predict.empty() +
                      !run.compare.empty() + !run.seeds.empty() + (run.dump != 0);
  require<UsageError>(actions <= 1, "command line",
                      "only one of --resume, --evaluate, --predict, --compare, --seeds and --dump "
                      "can be asked for");
  require<UsageError>(run.out.empty() || (run.predict.empty() && run.dump == 0), "command line",
                      "--predict and --dump write on standard output, without --out");
  require<UsageError>(run.resume.empty() || run.out.empty(), "command line",
                      "--resume goes on in its own folder, without --out");
}

void read_files(const RunSettings& run, Settings& settings) {
  check_actions(run);
  if (!run.resume.empty()) {
    const std::vector<uint64_t> seeds = seeds_in(run.resume);
    const std::string config =
        (seeds.empty() ? run.resume : seed_folder(run.resume, seeds.front())) + "/config.json";
    settings.set_json(read_file(config, kMaxConfig), config, Says::run);
  }
  if (!run.evaluate.empty() || !run.predict.empty()) {
    const std::string checkpoint =
        checkpoint_of(run.predict.empty() ? runs_of(run.evaluate).front() : run.predict);
    settings.set(read_checkpoint_state(checkpoint).configuration, checkpoint);
  }
  if (!run.config.empty()) settings.set_json(read_file(run.config, kMaxConfig), run.config);
}

// What --help says of the models.
std::string about_models(const ModelRegistry& models) {
  std::string text = "Models; --model X --help shows the settings of X:\n";
  for (const ModelKind& kind : models.all())
    text += fmt::format("  {:<9} {}\n", kind.name, kind.about);
  return text + "\n";
}

void dump(const TaskProgram& program, const Options& options) {
  const std::unique_ptr<Task> task = program.task();
  const TrainOptions train = train_options(options.train);
  check_training(*task, train);
  dump_examples(*task, train, options.run.dump,
                [](const std::string& line) { print(line + "\n"); });
}

// What the user has named, for each seed that goes on.
std::vector<std::string> named_flags(const Settings& settings) {
  std::vector<std::string> flags;
  for (const Setting& setting : settings.all()) {
    if (setting.named_by.empty() || !setting.is_in_use() || setting.decides == Decides::action)
      continue;
    const std::string flag = fmt::format("{}={}", flag_of(setting.key), text_of(setting));
    if (std::ranges::find(flags, flag) == flags.end()) flags.push_back(flag);
  }
  return flags;
}

// The seeds that --seeds names, or those of a folder that --resume does.
void run_many(const TaskProgram& program, const KeyTexts& own, const Goals& goals,
              Settings& settings, const Options& options) {
  const RunSettings& r = options.run;
  SeedRuns runs{.folder = !r.resume.empty() ? r.resume
                          : r.out.empty()   ? run_by_time()
                                            : r.out,
                .jobs = r.jobs,
                .steps = options.train.numbers.steps,
                .goals = goals};
  {
    Invocation any(program, own, goals, settings, options);  // refuses what each seed would
    any.open();
    runs.threads = any.context().threads();
  }
  if (r.resume.empty())
    make_seeds(runs.folder, seeds_named(r.seeds), [&](uint64_t seed) {
      settings.set("seed", std::to_string(seed), "seeds");
      return settings.to_json();
    });
  else
    runs.flags = named_flags(settings);
  run_seeds(runs);
}

void run_invocation(int argc, const char* const* argv, TaskProgram& program, ModelRegistry models) {
  Options options(std::move(models));
  Settings settings;
  program.add_to(settings);
  const size_t own_count = settings.all().size();
  add_to(settings, options);
  settings.set(Preset{"of the task", "", program.defaults()});
  const CommandLine command{.about = program.about(),
                            .presets = program.presets(),
                            .preset = options.run.preset,
                            .read_files = [&](Settings& s) { read_files(options.run, s); },
                            .chosen_by = "model",
                            .choices = about_models(options.model.models())};
  if (!read_command_line(argc, argv, command, settings)) return print("");  // if help arrived
  check(options, settings);
  require<UsageError>(
      !program.has_use() || (!options.run.evaluate.empty() && options.run.out.empty()),
      "command line", "a model is used with --evaluate RUN and without --out");
  if (program.acts()) return;
  KeyTexts own;
  for (const Setting& setting : std::span(settings.all()).first(own_count))
    if (!setting.is_implied() && setting.decides != Decides::action)
      own.emplace_back(setting.key, text_of(setting));
  const RunSettings& r = options.run;
  const Goals goals = goals_of(command.presets, r.preset, settings, own_count);
  if (!r.compare.empty()) return compare(r.compare, r.out);
  if (r.dump > 0) return dump(program, options);
  if (!r.seeds.empty() || !seeds_in(r.resume).empty())
    return run_many(program, own, goals, settings, options);
  Invocation invocation(program, own, goals, settings, options);
  if (program.has_use())
    invocation.use_model();
  else if (!r.evaluate.empty())
    invocation.evaluate_alone();
  else if (!r.predict.empty())
    invocation.predict_lines();
  else
    invocation.train();
}

}  // namespace

int run_program(int argc, const char* const* argv, TaskProgram& program, ModelRegistry models) {
  open_standard_streams();
  catch_interrupts();
  try {
    run_invocation(argc, argv, program, std::move(models));
    return 0;
  } catch (const Interrupted&) {
    say_interrupted();
    return kInterruptedExit;
  } catch (const OutputError& error) {
    print_error(error.what());
    return interrupted() ? kInterruptedExit : 1;  // a terminal that goes takes its output along
  } catch (const std::exception& error) {
    print_error(error.what());
    const bool misused = dynamic_cast<const UsageError*>(&error) != nullptr ||
                         dynamic_cast<const ValueError*>(&error) != nullptr;
    return misused ? 2 : 1;
  }
}

}  // namespace fprnn
