// Adaptive computation time: whole, in chunks and step by step.
#include <fprnn/models/act.h>
#include <fprnn/ops/layout.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

void run_act(Case& c) {
  Rng rng;
  Module root;
  Act layer(root, "layer", {c.context, rng},
            {.cell = c.spec.at("cell") == "lstm" ? RecurrentCell::lstm : RecurrentCell::gru,
             .inputs = c.spec.at("input_size"),
             .hidden = c.spec.at("hidden_size"),
             .epsilon = c.spec.at("epsilon"),
             .max_steps = c.spec.at("max_steps")});
  c.load(layer);
  const Var x = c.input("x");
  const int64_t T = x.size(1);
  const Tensor weight = full(c.context, {x.size(0), T}, c.spec.at("ponder_weight"));
  for (const int64_t length : {T, int64_t{1}, int64_t{3}, int64_t{64}}) {
    std::vector<Var> y, ponder;
    ActState state;
    for (int64_t t = 0; t < T; t += length) {
      const ActResult part = layer.forward(slice(x, 1, t, std::min(T, t + length)), state);
      y.push_back(part.h);
      ponder.push_back(part.ponder);
      if (length != T) continue;
      require<ValueError>(part.steps.to_vector() == c.file.ints(c.context, "out.steps").to_vector(),
                          "golden", "tokens must take the reference's numbers of steps");
    }
    const Var all = concat(ponder, 1);
    c.compare_output(all.value(), "out.ponder");
    c.check(concat(y, 1), "out.y", all, weight);
  }
}

}  // namespace

Runners act_runners() { return {{"act", run_act}}; }

}  // namespace fprnn::golden
