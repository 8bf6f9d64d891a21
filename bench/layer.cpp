#include "bench.h"

#include <fprnn/models/fp_mamba.h>
#include <fprnn/models/fp_rnn.h>
#include <fprnn/models/mamba.h>

namespace fprnn::bench {

namespace {

SolverOptions solver_options(const Options& options) {
  return {.solver = solver_named(options.solver),
          .tolerance = static_cast<real>(options.tolerance),
          .max_iterations = options.max_iterations,
          .gradient = gradient_named(options.gradient),
          .unconverged = Unconverged::accept};
}

std::unique_ptr<Layer> make_layer(Module& root, const Init& init, const Options& options) {
  const auto scale = static_cast<real>(options.mixer_scale);
  if (options.model == "mamba")
    return std::make_unique<Mamba>(
        root, "layer", init, MambaOptions{.d_model = options.d_model, .d_state = options.d_state});
  if (options.model == "fp-mamba")
    return std::make_unique<FpMamba>(root, "layer", init,
                                     FpMambaOptions{.d_model = options.d_model,
                                                    .d_state = options.d_state,
                                                    .mixer = mixer_named(options.mixer),
                                                    .rank = options.rank,
                                                    .scale = scale,
                                                    .solver = solver_options(options)});
  require<ValueError>(options.model == "fp-rnn", "bench", "layers are mamba, fp-mamba and fp-rnn",
                      options.model);
  return std::make_unique<FpRnn>(root, "layer", init,
                                 FpRnnOptions{.d_model = options.d_model,
                                              .mixer = mixer_named(options.mixer),
                                              .rank = options.rank,
                                              .scale = scale,
                                              .solver = solver_options(options)});
}

std::map<std::string, std::string> parameters_of(const Options& options, const Layer& layer) {
  std::map<std::string, std::string> parameters{{"model", options.model},
                                                {"d_model", std::to_string(options.d_model)},
                                                {"batch", std::to_string(options.batch)},
                                                {"length", std::to_string(options.length)}};
  if (options.model != "fp-rnn") parameters["d_state"] = std::to_string(options.d_state);
  if (const auto* fixed_point = dynamic_cast<const FixedPointLayer*>(&layer)) {
    const FixedPointReport& report = fixed_point->report();
    char text[32];
    parameters["mixer"] = options.mixer;
    if (options.mixer != "kronecker") parameters["rank"] = std::to_string(options.rank);
    parameters["solver"] = options.solver;
    parameters["gradient"] = options.gradient;
    std::snprintf(text, sizeof(text), "%.1f", report.mean_iterations());
    parameters["iterations_mean"] = text;
    std::snprintf(text, sizeof(text), "%.1e", static_cast<double>(report.max_residual()));
    parameters["residual_max"] = text;
    parameters["unconverged"] = std::to_string(report.unconverged());
  }
  return parameters;
}

}  // namespace

// Forward, and forward with all gradients, of one layer without norm or residual, as it starts.
// peak_mib is the tensor memory in use at most.
std::vector<Result> layer(const Context& context, const Options& options) {
  Rng rng;
  Module root;
  const Init init{context, rng};
  const auto block = make_layer(root, init, options);
  const Shape shape{options.batch, options.length, options.d_model};
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
  const auto times = medians(options, {forward, both});
  auto parameters = parameters_of(options, *block);
  parameters["peak_mib"] = std::to_string(context.memory().statistics().peak_bytes >> 20);
  std::vector<Result> results;
  for (int i = 0; i < 2; ++i)
    results.push_back(
        {.name = i == 0 ? "layer-forward" : "layer-forward-backward",
         .parameters = parameters,
         .threads = context.threads(),
         .milliseconds = times[i],
         .tokens_per_second = static_cast<double>(options.batch * options.length) / times[i] * 1e3,
         .runs = options.runs});
  return results;
}

}  // namespace fprnn::bench
