#include "bench.h"

#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>

namespace fprnn::bench {

Options with_sizes(Options options, int64_t batch, int64_t length, int64_t d_model,
                   int64_t layers) {
  if (options.batch == 0) options.batch = batch;
  if (options.length == 0) options.length = length;
  if (options.model->d_model == 0) options.model->d_model = d_model;
  if (options.model->layers == 0) options.model->layers = layers;
  return options;
}

namespace {

using Parameters = std::map<std::string, std::string>;

// The settings that distinguish measurements: these, and what else the user names.
Parameters settings_of(const Options& options) {
  constexpr std::string_view kShown[] = {"model", "d_model", "d_state", "mixer",
                                         "rank",  "solver",  "gradient"};
  Parameters parameters;
  for (const Setting& setting : options.settings->all()) {
    const bool idle = !setting.is_in_use() || (setting.refusal && !setting.refusal().empty());
    const bool shown = std::ranges::find(kShown, setting.key) != std::end(kShown);
    if (!idle && (shown || !setting.named_by.empty())) parameters[setting.key] = text_of(setting);
  }
  return parameters;
}

}  // namespace

Sizes parameters_of(const Options& options, const Layer& layer) {
  Parameters parameters = settings_of(options);
  parameters["batch"] = std::to_string(options.batch);
  parameters["length"] = std::to_string(options.length);
  if (const auto* fixed_point = dynamic_cast<const ImplicitLayer*>(&layer)) {
    const FixedPointReport& report = fixed_point->report();
    char text[32];
    if (fixed_point->solver.solver == Solver::automatic)
      parameters["solved_by"] = name_of(fixed_point->used());
    std::snprintf(text, sizeof(text), "%.1f", report.mean_iterations());
    parameters["iterations_mean"] = text;
    parameters["iterations_max"] = std::to_string(report.max_iterations());
    std::snprintf(text, sizeof(text), "%.1e", static_cast<double>(report.max_residual()));
    parameters["residual_max"] = text;
    parameters["unconverged"] = std::to_string(report.unconverged());
    parameters["strayed"] = std::to_string(fixed_point->strayed());
    const FixedPointReport adjoint = fixed_point->adjoint_report();
    if (!adjoint.residual.empty()) {
      std::snprintf(text, sizeof(text), "%.1e", static_cast<double>(adjoint.max_residual()));
      parameters["adjoint_residual_max"] = text;
      parameters["adjoint_iterations_max"] = std::to_string(adjoint.max_iterations());
      parameters["adjoint_unconverged"] = std::to_string(adjoint.unconverged());
    }
  }
  return parameters;
}

// Forward, and forward with all gradients, of one layer without norm or residual, as it starts.
// peak_mib is the tensor memory in use at most.
std::vector<Result> layer(const Context& context, const Options& given) {
  const Options options = with_sizes(given, 64, 17, 64);
  Rng rng;
  Module root;
  const Init init{context, rng};
  const auto block = options.model->make_layer(root, "layer", init);
  const Shape shape{options.batch, options.length, options.model->d_model};
  const Tensor u = normal(context, shape, 0, 1, rng), seed = uniform(context, shape, -1, 1, rng);
  const auto forward = [&] {
    NoGrad tape(context);
    block->forward(tape.constant(u));
  };
  const auto both = [&] {
    Tape tape(context);
    const Var x = tape.variable(u);
    const Var y = block->forward(x);
    std::vector<Var> wanted{x};
    for (const auto& [path, parameter] : block->parameters())
      wanted.push_back(tape.leaf(*parameter));
    tape.vjp({y}, {seed}, wanted);
  };
  const auto times = medians(context, options, {forward, both});
  Parameters parameters = parameters_of(options, *block);
  parameters["peak_mib"] = std::to_string(context.memory().statistics().peak_bytes >> 20);
  std::vector<Result> results;
  for (int i = 0; i < 2; ++i)
    results.push_back({.name = i == 0 ? "layer-forward" : "layer-forward-backward",
                       .parameters = parameters,
                       .milliseconds = times[i].milliseconds,
                       .tokens_per_second = static_cast<double>(options.batch * options.length) /
                                            times[i].milliseconds * 1e3,
                       .runs = options.runs,
                       .how = times[i].how});
  return results;
}

// How the cost of a fixed-point layer grows with the length: forward, and forward with either gradient, of a few
// sequences of 1,024 tokens and four times as many until 65,536, or --length.
std::vector<Result> lengths(const Context& context, const Options& given) {
  Options options = with_sizes(given, 1, 65536, 64);
  const int64_t longest = options.length;
  std::vector<Result> results;
  for (options.length = std::min<int64_t>(1024, longest); options.length <= longest;
       options.length *= 4)
    for (const char* gradient : {"one-step", "exact"}) {
      const bool first = gradient == std::string_view("one-step");
      options.model->solver.gradient = gradient;
      std::vector<Result> both = layer(context, options);
      if (first) results.push_back(both[0]);  // the same forward with either
      results.push_back(both[1]);
    }
  return results;
}

// A step of training as state_tracking takes it, with everything that belongs to one: drawing the batch,
// forward, loss, gradients, clipping, AdamW and the numbers that are logged. One layer on the group
// A5.
// The rate is so low that the model, and so the number of iterations, stays about as it starts.
std::vector<Result> train(const Context& context, const Options& given) {
  const Options options = with_sizes(given, 512, 17, 128);
  require<ValueError>(options.length >= 2, "bench", "a sequence must have two tokens to train on",
                      options.length);
  const WordProblem task(group_named("A5"));
  Rng rng = initial_stream(0);
  const auto model = options.model->make(task.vocabulary(), {context, rng});
  Training training(*model, task, context,
                    {.steps = int64_t{1} << 40,
                     .batch_size = options.batch,
                     .length = options.length - 1,  // and the beginning
                     .lr = 1e-6});
  constexpr int kWarmUp = 3;  // on a GPU the second step is recorded and the third repeats it
  for (int i = 0; i < kWarmUp; ++i) training.step();
  const double milliseconds = median_of_calls(options, [&] { training.step(); });
  Parameters parameters = parameters_of(options, *model->layers().front());
  parameters["vocabulary"] = std::to_string(task.vocabulary());
  parameters["steps"] = std::to_string(training.last().step);
  parameters["skipped"] = std::to_string(training.last().skipped);
  parameters["peak_mib"] = std::to_string(context.memory().statistics().peak_bytes >> 20);
  return {{.name = "train-step",
           .parameters = parameters,
           .milliseconds = milliseconds,
           .tokens_per_second =
               static_cast<double>(options.batch * options.length) / milliseconds * 1e3,
           .runs = options.runs}};
}

}  // namespace fprnn::bench
