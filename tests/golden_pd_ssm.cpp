// PD-SSM: whole, in chunks and step by step.
#include <fprnn/models/pd_ssm.h>

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
  check_layer<Var>(c, layer);
}

}  // namespace

Runners pd_ssm_runners() { return {{"pd_ssm", run_pd_ssm}}; }

}  // namespace fprnn::golden
