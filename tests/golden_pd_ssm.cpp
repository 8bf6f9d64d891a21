// PD-SSM: whole, in chunks and step by step.
#include <fprnn/models/pd_ssm.h>
#include <fprnn/ops/layout.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

void run_pd_ssm(Case& c) {
  Rng rng;
  Module root;
  PdSsm layer(root, "layer", {c.context, rng},
              {.d_model = c.spec.at("embedding_dim"),
               .d_state = c.spec.at("state_size"),
               .dictionary_size = c.spec.at("dictionary_size"),
               .hidden_multiple = c.spec.at("hidden_multiple"),
               .one_hot = c.spec.at("one_hot") == "row" ? OneHot::row : OneHot::column,
               .starts_at_one = c.spec.at("initial_state") == "e1",
               .eps = eps_of(c.spec)});
  c.load(layer);
  const Var x = c.input("x");
  const int64_t T = x.size(1);
  c.check(layer.forward(x));
  for (const int64_t length : {1, 3, 64}) {
    std::vector<Var> parts;
    Var h;
    for (int64_t t = 0; t < T; t += length)
      parts.push_back(layer.forward(slice(x, 1, t, std::min(T, t + length)), h));
    c.check(concat(parts, 1));
  }
}

}  // namespace

Runners pd_ssm_runners() { return {{"pd_ssm", run_pd_ssm}}; }

}  // namespace fprnn::golden
