#include <fprnn/core/processors.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/options.h>
#include <fprnn/tasks/run/run_directory.h>
#include <fprnn/tasks/run/seeds.h>

#include <tuple>

namespace fprnn {

namespace {

// Of fixed points and scans, besides what every model has.
void add_training(Settings& settings, TrainSettings& t, const ModelSettings& model,
                  const RunSettings& run) {
  settings.title("Training", Decides::training);
  settings.add("steps", t.numbers.steps, "Training steps, which the schedule spans");
  settings.add("batch_size", t.numbers.batch_size, "Sequences in a step");
  settings
      .add("accumulate", t.numbers.accumulate,
           "Batches of a step, one after the other; its loss is the mean of theirs")
      .implied = "1";
  settings.add("train_length", t.numbers.length, "Length trained at");
  settings.add(
      "curriculum", t.curriculum,
      "none, or LENGTH,SHARE: start at that length, at the whole after that share of steps");
  settings.add("lr", t.numbers.lr, "Peak learning rate");
  settings.add("schedule", t.schedule, "Of the learning rate after warm-up",
               {"cosine", "linear", "constant"});
  Setting& end = settings.add("end_lr", t.numbers.end_lr, "Learning rate at the schedule's end");
  end.implied = "0.0";
  end.refusal = [&t] {
    return t.schedule == "constant" ? "a constant schedule has no end_lr" : "";
  };
  settings.add("warmup", t.numbers.warmup, "Steps of linear warm-up");
  settings.add("weight_decay", t.numbers.adamw.weight_decay, "Decoupled weight decay");
  settings.add("betas", t.betas, "AdamW's two rates");
  settings.add("clip", t.numbers.clip, "Largest norm of all gradients together");
  settings
      .add("label_smoothing", t.numbers.label_smoothing,
           "Share of each target that is spread over all classes")
      .implied = "0.0";
  settings
      .add("dropout", t.numbers.dropout,
           "Probability that a number a layer adds to the residual stream is dropped in training")
      .implied = "0.0";
  settings.add("seed", t.numbers.seed, "Seed of weights and data").refusal = [&run] {
    const bool one =
        run.seeds.empty() && seeds_in(run.resume).empty() && seeds_in(run.evaluate).empty();
    return one ? "" : "each of several runs has a seed of its own";
  };
  Setting& keep = settings.add("keep", t.keep,
                               "Weights to evaluate at the end: of the last step, or of the least "
                               "validation loss among those of --eval-every and the last",
                               {"last", "best"});
  keep.implied = "last";
  keep.refusal = [&] {
    return t.keep == "last" || run.eval_every > 0 ? ""
                                                  : "without --eval-every there is the last alone";
  };
  settings.title("Training", Decides::training, [&] { return model.any_has(&ModelKind::solver); });
  settings.add("iteration_cap", t.iteration_cap,
               "Cap in training alone: none, N, or gamma:4,1 drawn anew each step");
  settings.title("Training", Decides::training, [&] { return model.any_has(&ModelKind::states); });
  settings.add("state_dropout", t.numbers.state_dropout.first,
               "Probability that a step of training forgets the scan's state");
  settings
      .add("final_state_dropout", t.final_state_dropout,
           "To which state_dropout rises evenly by the last step: same, or a probability")
      .implied = "same";
}

void add_run(Settings& settings, RunSettings& r) {
  settings.title("Run", Decides::run);
  settings.add("preset", r.preset, "Values to start from, see below");
  settings.add("time_limit", r.time_limit, "Seconds of training, then a checkpoint; 0: none");
  settings.add("checkpoint_every", r.checkpoint_every, "Steps; 0: only at the end");
  settings.add("eval_every", r.eval_every, "Steps; 0: only at the end");
  settings.add("log_every", r.log_every, "Steps from one line of metrics.jsonl to the next");
  settings.add("eval_lengths", r.eval_lengths, "Lengths to evaluate at");
  settings.add("eval_sequences", r.eval_sequences, "Sequences at each length");
  settings.add("device", r.device, "Where to compute", {"auto", "cpu", "cuda"});
  settings.add("threads", r.threads,
               "CPU threads; 0: as many as the processors granted, or OMP_NUM_THREADS");
  settings.add("matmul_precision", r.matmul_precision, "Of products on the GPU",
               {"fp32", "tf32", "bf16"});

  settings.title("This time", Decides::action);
  settings.add("out", r.out, "Run directory to make; empty: runs/ and the time");
  settings.add("config", r.config, "JSON file of settings, such as a run's config.json");
  const auto add_folder = [&](std::string key, std::string& place, std::string help) {
    settings.add(std::move(key), place, std::move(help)).refusal = [&place] {
      return place.find_first_not_of(',') == std::string::npos ? "it must name a run directory"
                                                               : "";
    };
  };
  add_folder("resume", r.resume, "Run directory to go on in from its last checkpoint");
  add_folder("evaluate", r.evaluate,
             "Run directory, checkpoint or folder of seeds to evaluate, without training");
  add_folder("predict", r.predict,
             "Run directory or checkpoint to answer lines of words on standard input, in JSON");
  add_folder("compare", r.compare,
             "Folders of runs or seeds, comma-separated, to show side by side");
  settings.add("dump", r.dump, "Print so many examples of training, as JSON, and end").refusal =
      [&r] { return r.dump < 1 ? "there must be an example" : ""; };
  settings.add("seeds", r.seeds, "Seeds to run, such as 0-7, each into a folder of its own")
      .refusal = [&r] { return r.seeds.empty() ? "it must name seeds" : ""; };
  settings.add("jobs", r.jobs, "Seeds that run at once and share the threads").refusal = [&r] {
    return r.seeds.empty() && seeds_in(r.resume).empty() ? "without seeds there is one run" : "";
  };
}

// "A,B" as two numbers.
std::pair<double, double> pair_of(const std::string& text, std::string_view what) {
  const std::vector<std::string> parts = split(text, ',');
  const auto first = number_in<double>(parts.front()), second = number_in<double>(parts.back());
  require<ValueError>(parts.size() == 2 && first && second, what,
                      "must be two numbers, such as 4,1", text);
  return {*first, *second};
}

IterationCap iteration_cap_named(const std::string& name) {
  if (name == "none") return {};
  if (name.starts_with("gamma:")) {
    const auto [shape, scale] = pair_of(name.substr(6), "iteration_cap");
    require<ValueError>(shape >= 1 && shape <= 1000 && shape == static_cast<int64_t>(shape),
                        "iteration_cap", "gamma's shape must be a whole number from 1", shape);
    return {.shape = static_cast<int64_t>(shape), .scale = scale};
  }
  const int64_t fixed = number_in<int64_t>(name).value_or(0);
  require<ValueError>(fixed >= 1, "iteration_cap",
                      "must be none, a whole number from 1, or gamma:SHAPE,SCALE", name);
  return {.fixed = fixed};
}

Curriculum curriculum_named(const std::string& name) {
  if (name == "none") return {};
  const auto [from, share] = pair_of(name, "curriculum");
  require<ValueError>(from >= 1 && from <= 1e6 && from == static_cast<int64_t>(from), "curriculum",
                      "the length must be a whole number from 1", from);
  return {static_cast<int64_t>(from), share};
}

void check_run(const RunSettings& run) {
  const std::pair<std::string_view, double> numbers[] = {
      {"time_limit", run.time_limit},
      {"checkpoint_every", static_cast<double>(run.checkpoint_every)},
      {"eval_every", static_cast<double>(run.eval_every)},
      {"log_every", static_cast<double>(run.log_every)}};
  for (const auto& [key, number] : numbers)
    require<ValueError>(number >= 0, key, "must not be negative", number);
  if (!run.seeds.empty()) seeds_named(run.seeds);
  require<ValueError>(run.jobs >= 1 && run.jobs <= 1000, "jobs", "must be 1 to 1000", run.jobs);
  require<ValueError>(!run.eval_lengths.empty(), "eval_lengths", "there must be lengths");
  for (const int64_t length : run.eval_lengths)
    check_batch("eval_lengths", run.eval_sequences, length);
}

}  // namespace

void add_to(Settings& settings, Options& options) {
  options.model.add_to(settings);
  add_training(settings, options.train, options.model, options.run);
  add_run(settings, options.run);
}

void check(const Options& options, const Settings& settings) {
  check_run(options.run);
  options.model.check();
  check(train_options(options.train));
  if (options.train.keep == "best")
    check_batch("keep", options.run.eval_sequences, options.train.numbers.length);
  settings.check(options.model.model);
}

TrainOptions train_options(const TrainSettings& settings) {
  TrainOptions options = settings.numbers;
  std::tie(options.adamw.beta1, options.adamw.beta2) = pair_of(settings.betas, "betas");
  options.curriculum = curriculum_named(settings.curriculum);
  options.decline = decline_named(settings.schedule);
  options.iteration_cap = iteration_cap_named(settings.iteration_cap);
  const std::string& last = settings.final_state_dropout;
  const auto number = number_in<double>(last);
  require<ValueError>(last == "same" || number, "final_state_dropout", "must be same, or a number",
                      last);
  options.state_dropout.last = number.value_or(options.state_dropout.first);
  return options;
}

Context open_device(const RunSettings& run, bool may_use_gpu) {
  require<ValueError>(run.threads >= 0 && run.threads <= 1024, "threads", "must be 0 to 1024",
                      run.threads);
  const ContextOptions options{.threads = threads_within_limit(static_cast<int>(run.threads)),
                               .matmul_precision = matmul_precision_named(run.matmul_precision)};
  require<UsageError>(may_use_gpu || run.device != "cuda", "device",
                      "the model cannot compute on it", run.device);
  if (run.device == "cuda" || (run.device == "auto" && may_use_gpu && gpu_is_there()))
    return Context::cuda(options);
  require<ValueError>(options.matmul_precision == MatmulPrecision::fp32, "matmul_precision",
                      "only products on a GPU can have another precision than fp32",
                      run.matmul_precision);
  return Context::cpu(options);
}

}  // namespace fprnn
