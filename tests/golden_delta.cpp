// The delta rule and the layers over it: whole, in chunks and step by step.
#include <fprnn/models/delta_net.h>
#include <fprnn/ops/delta_rule.h>
#include <fprnn/ops/layout.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

constexpr int64_t kLengths[] = {1, 3, 64};  // of chunks

void run_delta_rule(Case& c) {
  const Var q = c.input("q"), k = c.input("k"), v = c.input("v"), beta = c.input("beta"),
            g = c.file.has("in.g") ? c.input("g") : Var();
  const int64_t T = q.size(1);
  for (const int64_t length : kLengths)
    for (const auto rule : {delta_rule, delta_rule_by_steps}) {
      std::vector<Var> parts;
      Var state;
      for (int64_t t = 0; t < T; t += length) {
        const int64_t end = std::min(T, t + length);
        const auto part = [&](const Var& x) { return x.defined() ? slice(x, 1, t, end) : Var(); };
        const DeltaRuleResult result = rule({.q = part(q),
                                             .k = part(k),
                                             .v = part(v),
                                             .beta = part(beta),
                                             .g = part(g),
                                             .state = state,
                                             .scale = c.spec.value("scale", real(1))});
        parts.push_back(result.o);
        state = result.state;
      }
      c.check(concat(parts, 1));
    }
}

void run_layer(Case& c, const DeltaNetOptions& options) {
  Rng rng;
  Module root;
  DeltaNet layer(root, "layer", {c.context, rng}, options);
  c.load(layer);
  check_layer<DeltaNetState>(c, layer);
}

// What all kinds say.
DeltaNetOptions options_of(const Json& spec) {
  DeltaNetOptions options{.d_model = spec.at("hidden_size"),
                          .heads = spec.at("num_heads"),
                          .negative_eigenvalues = spec.value("allow_neg_eigval", false),
                          .conv_width = spec.value("conv_size", 4),
                          .conv_bias = spec.value("conv_bias", false),
                          .eps = eps_of(spec),
                          .l2_eps = spec.value("l2_eps", real(1e-6))};
  if (!spec.value("use_short_conv", true)) options.conv_width = 0;
  return options;
}

KeyActivation activation_of(const std::string& name) {
  for (const auto& [known, activation] : {std::pair{"silu", KeyActivation::silu},
                                          {"relu", KeyActivation::relu},
                                          {"elu", KeyActivation::elu},
                                          {"identity", KeyActivation::identity}})
    if (name == known) return activation;
  throw FormatError("golden", "the activation must be known", std::array{describe(name)});
}

void run_deltanet(Case& c) {
  DeltaNetOptions options = options_of(c.spec);
  const double width = static_cast<double>(options.d_model) / static_cast<double>(options.heads);
  const double expand_k = c.spec.value("expand_k", 1.0), expand_v = c.spec.value("expand_v", 1.0);
  options.head_dim = std::llround(expand_k * width);
  options.expand_v = expand_v / expand_k;
  options.output_gate = c.spec.value("use_gate", false);
  options.activation = activation_of(c.spec.value("qk_activation", "silu"));
  if (c.spec.value("qk_norm", "l2") == "sum") options.norm = KeyNorm::sum;
  options.beta = c.spec.value("use_beta", true);
  run_layer(c, options);
}

DeltaNetOptions gated_options(const Json& spec) {
  DeltaNetOptions options = options_of(spec);
  options.head_dim = spec.at("head_dim");
  options.expand_v = spec.value("expand_v", 2.0);
  options.forget_gate = spec.value("use_forget_gate", true);
  options.output_gate = spec.value("use_gate", true);
  return options;
}

void run_gated_deltanet(Case& c) {
  DeltaNetOptions options = gated_options(c.spec);
  options.value_heads = c.spec.value("num_v_heads", options.heads);
  run_layer(c, options);
}

void run_gated_deltaproduct(Case& c) {
  DeltaNetOptions options = gated_options(c.spec);
  options.householder = c.spec.value("num_householder", 2);
  options.negative_eigenvalues = c.spec.value("allow_neg_eigval", true);
  run_layer(c, options);
}

}  // namespace

Runners delta_runners() {
  return {{"gated_delta_rule", run_delta_rule},
          {"gated_delta_product", run_delta_rule},
          {"deltanet", run_deltanet},
          {"gated_deltanet", run_gated_deltanet},
          {"gated_deltaproduct", run_gated_deltaproduct}};
}

}  // namespace fprnn::golden
