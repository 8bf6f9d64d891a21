// The Transformer's block and the one with tied weights: whole, in chunks and step by step.
#include <fprnn/models/deq.h>
#include <fprnn/models/transformer.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

CausalAttentionOptions attention_of(const Json& spec) {
  return {.d_model = spec.at("hidden_size"),
          .heads = spec.at("num_heads"),
          .positions = positions_named(spec.value("positions", std::string("none"))),
          .rotary_pct = spec.value("rotary_pct", 1.0),
          .rotary_base = spec.value("rotary_base", 10000.0)};
}

void run_transformer(Case& c) {
  Rng rng;
  Module root;
  Transformer block(root, "block", {c.context, rng},
                    {.attention = attention_of(c.spec),
                     .intermediate = c.spec.at("intermediate_size"),
                     .parallel_residual = c.spec.value("parallel_residual", false),
                     .eps = eps_of(c.spec)});
  c.load(block);
  check_layer<AttentionCache>(c, block);
}

// As near as the build's numbers allow.
SolverOptions solver_of(const Json& spec) {
  return {.tolerance = kDouble ? real(1e-12) : real(3e-7),
          .max_iterations = 2000,
          .gradient =
              gradient_named(spec.value("gradient", "one_step") == "exact" ? "exact" : "one-step"),
          .unconverged = Unconverged::accept};
}

void run_deq(Case& c) {
  Rng rng;
  Module root;
  Deq block(root, "block", {c.context, rng},
            {.attention = attention_of(c.spec),
             .intermediate = c.spec.at("ffn_dim"),
             .most_magnitude = 0,
             .eps = eps_of(c.spec),
             .solver = solver_of(c.spec)});
  c.load(block);
  const Var x = c.input("x");
  for (const Solver solver : {Solver::parallel, Solver::sequential}) {
    block.solver.solver = solver;
    const Var y = block.forward(x);
    c.compare_output(block.solution(), "fixed_point.y");
    c.check(y);
    // The cache is a value: chunks give outputs alone.
    for (const int64_t length : {1, 3, 64}) {
      std::vector<Var> parts;
      LayerState state;
      for (int64_t t = 0; t < x.size(1); t += length)
        parts.push_back(block.forward(slice(x, 1, t, std::min(x.size(1), t + length)), state));
      c.compare_output(concat(parts, 1).value(), "out.y");
    }
  }
}

}  // namespace

Runners transformer_runners() {
  return {{"transformer", run_transformer}, {"deq_transformer", run_deq}};
}

}  // namespace fprnn::golden
