#include "bench.h"

#include <fprnn/models/mamba.h>

namespace fprnn::bench {

// Forward, and forward with all gradients, of one layer without norm or residual.
std::vector<Result> layer(const Context& context, const Options& options) {
  require<ValueError>(options.model == "mamba", "bench", "layers are mamba", options.model);
  Rng rng;
  Module root;
  const Init init{context, rng};
  Mamba block(root, "layer", init, {.d_model = options.d_model, .d_state = options.d_state});
  const Shape shape{options.batch, options.length, options.d_model};
  const Tensor u = uniform(context, shape, -1, 1, rng), seed = uniform(context, shape, -1, 1, rng);
  const auto forward = [&] {
    NoGrad tape(context);
    block.forward(tape.constant(u));
  };
  const auto both = [&] {
    Tape tape(context);
    const Var x = tape.variable(u);
    const Var y = block.forward(x);
    std::vector<Var> wanted{x};
    for (const auto& [path, parameter] : block.parameters())
      wanted.push_back(tape.leaf(*parameter));
    tape.vjp({y}, {seed}, wanted);
  };
  const auto times = medians(options, {forward, both});
  std::vector<Result> results;
  for (int i = 0; i < 2; ++i)
    results.push_back(
        {.name = i == 0 ? "layer-forward" : "layer-forward-backward",
         .parameters = {{"model", options.model},
                        {"d_model", std::to_string(options.d_model)},
                        {"d_state", std::to_string(options.d_state)},
                        {"batch", std::to_string(options.batch)},
                        {"length", std::to_string(options.length)}},
         .threads = context.threads(),
         .milliseconds = times[i],
         .tokens_per_second = static_cast<double>(options.batch * options.length) / times[i] * 1e3,
         .runs = options.runs});
  return results;
}

}  // namespace fprnn::bench
