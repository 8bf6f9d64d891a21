// The LSTM and the GRU: whole, in chunks and step by step.
#include <fprnn/models/recurrent.h>
#include <fprnn/ops/layout.h>

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
  const Var x = c.input("x");
  const int64_t T = x.size(1);
  c.check(layer.forward(x));
  for (const int64_t length : {1, 3, 64}) {
    std::vector<Var> parts;
    RecurrentState state;
    for (int64_t t = 0; t < T; t += length)
      parts.push_back(layer.forward(slice(x, 1, t, std::min(T, t + length)), state));
    c.check(concat(parts, 1));
  }
}

}  // namespace

Runners recurrent_runners() {
  return {{"lstm", run_recurrent<RecurrentCell::lstm>}, {"gru", run_recurrent<RecurrentCell::gru>}};
}

}  // namespace fprnn::golden
