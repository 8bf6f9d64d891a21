// The LSTM and the GRU: whole, in chunks and step by step.
#include <fprnn/models/recurrent.h>

#include "golden_case.h"

namespace fprnn::golden {

namespace {

template <RecurrentCell cell>
void run_recurrent(Case& c) {
  Rng rng;
  Module root;
  Recurrent layer(
      root, "layer", {c.context, rng},
      {.cell = cell, .inputs = c.spec.at("input_size"), .hidden = c.spec.at("hidden_size")});
  c.load(layer);
  check_layer<RecurrentState>(c, layer);
}

}  // namespace

Runners recurrent_runners() {
  return {{"lstm", run_recurrent<RecurrentCell::lstm>}, {"gru", run_recurrent<RecurrentCell::gru>}};
}

}  // namespace fprnn::golden
