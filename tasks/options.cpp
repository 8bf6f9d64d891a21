#include <fmt/format.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/mamba.h>
#include <fprnn/tasks/options.h>
#include <fprnn/tasks/task.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace fprnn {

namespace {

void add_model(Settings& settings, ModelSettings& m) {
  settings.title("Model", Decides::model);
  settings.add("model", m.model, "Kind of layer", {"fp-mamba", "fp-rnn", "mamba"});
  settings.add("d_model", m.d_model, "Width of the residual stream");
  settings.add("d_state", m.d_state, "States of each channel");
  settings.add("layers", m.layers, "Layers");
  settings.add("expand", m.expand, "Channels inside a layer, in units of d-model");
  settings.add("short_conv", m.short_conv,
               "Whether inputs pass a convolution of width 4; mamba always has it");
  settings.add("mixer", m.mixer, "Channel mixer of the fixed points",
               {"kronecker", "householder", "dplr"});
  settings.add("rank", m.rank, "Rank of householder and dplr");
  settings.add("mixer_scale", m.mixer_scale, "1 contracts, 2 allows reflections");
  settings.add("mixer_normalisation", m.mixer_normalisation, "Of kronecker",
               {"row", "spectral", "both"});
  settings.add("mixer_input", m.mixer_input, "What the mixer sees of x_t and y_{t-1}",
               {"concatenated", "symmetric"});
  settings.add("hidden_dependence", m.hidden_dependence,
               "Which see y_{t-1}: none or some of q,b,c,lambda");
  settings.add("bc_norm", m.bc_norm, "Whether b and c are normalised");
  settings.add("glu_in_loop", m.glu_in_loop, "Whether the gate is inside the fixed point");
}

void add_solver(Settings& settings, SolverSettings& s) {
  settings.title("Solver", Decides::solver);
  settings.add(
      "solver", s.solver,
      "How fixed points are found; auto: parallel where that is known to be faster, never in "
      "training or on the CPU, else sequential",
      {"auto", "sequential", "parallel", "patience"});
  settings.add("gradient", s.gradient, "one-step, neumann:K or exact");
  settings.add("tolerance", s.tolerance, "Residual that a solve aims at");
  settings.add("max_iterations", s.max_iterations,
               "Cap: parallel and patience of a solve, sequential of each step");
}

void add_training(Settings& settings, TrainSettings& t) {
  settings.title("Training", Decides::training);
  settings.add("steps", t.steps, "Training steps, which the schedule spans");
  settings.add("batch_size", t.batch_size, "Sequences in a step");
  settings.add("train_length", t.train_length, "Length trained at");
  settings.add(
      "curriculum", t.curriculum,
      "none, or LENGTH,SHARE: start at that length, at the whole after that share of steps");
  settings.add("lr", t.lr, "Peak learning rate");
  settings.add("schedule", t.schedule, "Of the learning rate after warm-up",
               {"cosine", "linear", "constant"});
  settings.add("warmup", t.warmup, "Steps of linear warm-up");
  settings.add("weight_decay", t.weight_decay, "Decoupled weight decay");
  settings.add("betas", t.betas, "AdamW's two rates");
  settings.add("clip", t.clip, "Largest norm of all gradients together");
  settings.add("iteration_cap", t.iteration_cap,
               "Cap in training alone: none, N, or gamma:4,1 drawn anew each step");
  settings.add("state_dropout", t.state_dropout,
               "Probability that a step of training forgets the scan's state");
  settings.add("seed", t.seed, "Seed of weights and data");
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
  settings.add("threads", r.threads, "CPU threads; 0: all cores");
  settings.add("matmul_precision", r.matmul_precision, "Of products on the GPU",
               {"fp32", "tf32", "bf16"});

  settings.title("This time", Decides::action);
  settings.add("out", r.out, "Run directory to make; empty: runs/ and the time");
  settings.add("config", r.config, "JSON file of settings, such as a run's config.json");
  settings.add("resume", r.resume, "Run directory to go on in from its last checkpoint");
  settings.add("evaluate", r.evaluate, "Run directory or checkpoint to evaluate, without training");
  settings.add("compare", r.compare, "Run directories, comma-separated, to show side by side");
}

// "A,B" as two numbers.
std::pair<double, double> pair_of(const std::string& text, std::string_view what) {
  std::pair<double, double> pair;
  const char* end = text.data() + text.size();
  auto read = std::from_chars(text.data(), end, pair.first);
  bool right = read.ec == std::errc() && read.ptr != end && *read.ptr == ',';
  if (right) {
    read = std::from_chars(read.ptr + 1, end, pair.second);
    right = read.ec == std::errc() && read.ptr == end;
  }
  require<ValueError>(right, what, "must be two numbers, such as 4,1", text);
  return pair;
}

IterationCap iteration_cap_named(const std::string& name) {
  if (name == "none") return {};
  if (name.starts_with("gamma:")) {
    const auto [shape, scale] = pair_of(name.substr(6), "iteration_cap");
    require<ValueError>(shape >= 1 && shape <= 1000 && shape == static_cast<int64_t>(shape),
                        "iteration_cap", "gamma's shape must be a whole number from 1", shape);
    return {.shape = static_cast<int64_t>(shape), .scale = scale};
  }
  IterationCap cap;
  const char* end = name.data() + name.size();
  const auto read = std::from_chars(name.data(), end, cap.fixed);
  require<ValueError>(read.ec == std::errc() && read.ptr == end && cap.fixed >= 1, "iteration_cap",
                      "must be none, a whole number from 1, or gamma:SHAPE,SCALE", name);
  return cap;
}

Curriculum curriculum_named(const std::string& name) {
  if (name == "none") return {};
  const auto [from, share] = pair_of(name, "curriculum");
  require<ValueError>(from >= 1 && from <= 1e6 && from == static_cast<int64_t>(from), "curriculum",
                      "the length must be a whole number from 1", from);
  return {static_cast<int64_t>(from), share};
}

KroneckerNorm kronecker_norm_named(const std::string& name) {
  if (name == "both") return KroneckerNorm::row_spectral;
  return name == "row" ? KroneckerNorm::row : KroneckerNorm::spectral;
}

// What FP-Mamba and the FP-RNN have in common.
template <class LayerOptions>
LayerOptions fixed_point_options(const ModelSettings& m, const SolverOptions& solver) {
  LayerOptions options;
  options.d_model = m.d_model;
  options.expand = m.expand;
  options.conv_width = m.short_conv ? 4 : 0;
  options.layers = m.layers;
  options.mixer = mixer_named(m.mixer);
  options.rank = m.rank;
  options.scale = static_cast<real>(m.mixer_scale);
  options.kronecker_norm = kronecker_norm_named(m.mixer_normalisation);
  options.symmetric = m.mixer_input == "symmetric";
  options.solver = solver;
  return options;
}

FpMambaOptions fp_mamba_options(const ModelSettings& m, const SolverOptions& solver) {
  auto options = fixed_point_options<FpMambaOptions>(m, solver);
  options.d_state = m.d_state;
  options.dependence = hidden_dependence_named(m.hidden_dependence);
  options.bc_norm = m.bc_norm;
  options.glu_in_loop = m.glu_in_loop;
  return options;
}

FpRnnOptions fp_rnn_options(const ModelSettings& m, const SolverOptions& solver) {
  auto options = fixed_point_options<FpRnnOptions>(m, solver);
  options.hidden_dependence = hidden_dependence_named(m.hidden_dependence).q;
  return options;
}

LayerFactory layer_factory(const ModelSettings& m, const SolverOptions& solver) {
  if (m.model == "mamba")
    return [m](Module& parent, std::string name, const Init& init) {
      return std::make_unique<Mamba>(
          parent, std::move(name), init,
          MambaOptions{
              .d_model = m.d_model, .d_state = m.d_state, .expand = m.expand, .layers = m.layers});
    };
  if (m.model == "fp-rnn")
    return [o = fp_rnn_options(m, solver)](Module& parent, std::string name, const Init& init) {
      return std::make_unique<FpRnn>(parent, std::move(name), init, o);
    };
  return [o = fp_mamba_options(m, solver)](Module& parent, std::string name, const Init& init) {
    return std::make_unique<FpMamba>(parent, std::move(name), init, o);
  };
}

}  // namespace

void add_to(Settings& settings, Options& options) {
  add_model(settings, options.model);
  add_solver(settings, options.solver);
  add_training(settings, options.train);
  add_run(settings, options.run);
}

namespace {

void check_run(const RunSettings& run) {
  const std::pair<std::string_view, double> numbers[] = {
      {"time_limit", run.time_limit},
      {"checkpoint_every", static_cast<double>(run.checkpoint_every)},
      {"eval_every", static_cast<double>(run.eval_every)},
      {"log_every", static_cast<double>(run.log_every)}};
  for (const auto& [key, number] : numbers)
    require<ValueError>(number >= 0, key, "must not be negative", number);
  require<ValueError>(!run.eval_lengths.empty(), "eval_lengths", "there must be lengths");
  for (const int64_t length : run.eval_lengths)
    check_batch("eval_lengths", run.eval_sequences, length);
  require<UsageError>(
      run.compare.empty() || run.compare.find_first_not_of(',') != std::string::npos, "compare",
      "it must name a run directory", run.compare);
}

// Keys of settings that do nothing for what was chosen.
struct Unused {
  std::string by;
  std::vector<std::string_view> keys;
  std::string but = "";
};
std::vector<Unused> unused_settings(const Options& options) {
  const ModelSettings& m = options.model;
  std::vector<Unused> unused;
  if (m.model == "mamba")
    return {{"mamba",
             {"short_conv", "mixer", "rank", "mixer_scale", "mixer_normalisation", "mixer_input",
              "hidden_dependence", "bc_norm", "glu_in_loop", "solver", "gradient", "tolerance",
              "max_iterations", "iteration_cap", "state_dropout"}}};
  if (m.model == "fp-rnn") {
    unused.push_back({"fp-rnn", {"d_state", "bc_norm", "glu_in_loop", "state_dropout"}});
    const HiddenDependence sees = hidden_dependence_named(m.hidden_dependence);
    if (sees.b || sees.c || sees.lambda)
      unused.push_back({"fp-rnn", {"hidden_dependence"}, " but q and none"});
  }
  const bool kronecker = m.mixer == "kronecker";
  unused.push_back({m.mixer, {kronecker ? "rank" : "mixer_normalisation"}});
  if (options.solver.solver == "patience") unused.push_back({"patience", {"tolerance"}});
  return unused;
}

// What a preset or a run's record says beside the rest may be there in vain; the user's word may not.
void check_used(const Options& options, const Settings& settings) {
  for (const auto& [by, keys, but] : unused_settings(options))
    for (const Setting& setting : settings.all())
      if (!setting.named_by.empty() && std::ranges::find(keys, setting.key) != keys.end())
        throw UsageError(setting.named_by, fmt::format("{} has no {}{}", by, setting.key, but));
}

}  // namespace

void check(const Options& options, const Settings& settings) {
  check_run(options.run);
  check(solver_options(options.solver));
  check(train_options(options.train));
  check_used(options, settings);
}

SolverOptions solver_options(const SolverSettings& s) {
  return {.solver = solver_named(s.solver),
          .tolerance = static_cast<real>(s.tolerance),
          .max_iterations = s.max_iterations,
          .gradient = gradient_named(s.gradient),
          .unconverged = Unconverged::accept};  // it is reported with every step
}

TrainOptions train_options(const TrainSettings& t) {
  const auto [beta1, beta2] = pair_of(t.betas, "betas");
  return {.steps = t.steps,
          .batch_size = t.batch_size,
          .length = t.train_length,
          .curriculum = curriculum_named(t.curriculum),
          .lr = t.lr,
          .warmup = t.warmup,
          .decline = decline_named(t.schedule),
          .clip = t.clip,
          .iteration_cap = iteration_cap_named(t.iteration_cap),
          .state_dropout = t.state_dropout,
          .seed = t.seed,
          .adamw = {.beta1 = beta1, .beta2 = beta2, .weight_decay = t.weight_decay}};
}

std::unique_ptr<SequenceModel> make_model(const ModelSettings& model, const SolverOptions& solver,
                                          int64_t vocabulary, const Init& init) {
  return std::make_unique<SequenceModel>(
      init, SequenceModelOptions{.vocabulary = vocabulary,
                                 .d_model = model.d_model,
                                 .layers = model.layers,
                                 .make_layer = layer_factory(model, solver)});
}

Context open_device(const RunSettings& run) {
  require<ValueError>(run.threads >= 0 && run.threads <= 1024, "threads", "must be 0 to 1024",
                      run.threads);
  const ContextOptions options{.threads = static_cast<int>(run.threads),
                               .matmul_precision = matmul_precision_named(run.matmul_precision)};
  if (run.device == "cuda" || (run.device == "auto" && gpu_is_there()))
    return Context::cuda(options);
  require<ValueError>(options.matmul_precision == MatmulPrecision::fp32, "matmul_precision",
                      "only products on a GPU can have another precision than fp32",
                      run.matmul_precision);
  return Context::cpu(options);
}

}  // namespace fprnn
