// The LSTM and the GRU as layers: parameters, states, and what they refuse.
#include <doctest/doctest.h>
#include <fprnn/models/recurrent.h>
#include <fprnn/ops/layout.h>

#include <cmath>

#include "close.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kInputs = 3, kHidden = 5;

// A scrambled layer with the memory that it stands on.
struct Block {
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  Recurrent layer;

  Block(const Context& context, RecurrentCell cell)
      : layer(root, "layer", {context, rng}, {.cell = cell, .inputs = kInputs, .hidden = kHidden}) {
  }
};

constexpr RecurrentCell kCells[] = {RecurrentCell::lstm, RecurrentCell::gru};

}  // namespace

TEST_CASE("recurrent: parameters are PyTorch's, within 1 / sqrt(hidden), and biases do not decay") {
  for (const RecurrentCell cell : kCells) {
    Block block(test_context(), cell);
    const int64_t rows = gates_of(cell) * kHidden;
    CHECK(block.layer.parameter("weight_ih_l0").value.shape() == Shape{rows, kInputs});
    CHECK(block.layer.parameter("weight_hh_l0").value.shape() == Shape{rows, kHidden});
    CHECK(block.layer.parameter("bias_ih_l0").value.shape() == Shape{rows});
    for (const auto& [path, parameter] : block.layer.parameters()) {
      CHECK(parameter->decays == path.starts_with("weight"));
      double largest = 0;
      for (const real value : parameter->value.to_vector())
        largest = std::max(largest, std::abs(static_cast<double>(value)));
      const double bound = 1 / std::sqrt(static_cast<double>(kHidden));
      CHECK((largest <= bound && largest > bound / 2));
    }
  }
}

// Outputs, and gradients that pass through the states between chunks.
TEST_CASE("recurrent: chunks with their states are the whole sequence, and so is the state") {
  constexpr int64_t kB = 2, kT = 11;
  const Context context = test_context();
  for (const RecurrentCell cell : kCells) {
    Block block(context, cell);
    scramble(block.layer);
    Tape tape(context);
    const Var u = tape.variable(random(context, {kB, kT, kInputs}, 5));
    std::vector<Var> wanted{u};
    for (const auto& [path, parameter] : block.layer.parameters())
      wanted.push_back(tape.leaf(*parameter));
    const std::vector<Tensor> seeds{random(context, {kB, kT, kHidden}, 6)};
    const Var whole = block.layer.forward(u);
    const auto gradients = tape.vjp({whole}, seeds, wanted);
    for (const int64_t length : {1, 3, 4, 11}) {
      RecurrentState state;
      LayerState values;
      std::vector<Var> parts, plain;
      for (int64_t t = 0; t < kT; t += length) {
        const Var chunk = slice(u, 1, t, std::min(kT, t + length));
        parts.push_back(block.layer.forward(chunk, state));
        plain.push_back(block.layer.forward(chunk.value(), values));
      }
      const double near = kDouble ? 1e-13 : 1e-5;
      const Var joined = concat(parts, 1);
      check_close("chunks", joined.value().to_vector(), whole.value().to_vector(), near);
      check_close("states as values", concat(plain, 1).value().to_vector(),
                  whole.value().to_vector(), near);
      const auto of_chunks = tape.vjp({joined}, seeds, wanted);
      for (size_t i = 0; i < wanted.size(); ++i)
        check_close("gradient", of_chunks[i].to_vector(), gradients[i].to_vector(), 10 * near);
    }
  }
}

TEST_CASE("recurrent: a chunk of no steps leaves the state as it came") {
  const Context context = test_context();
  for (const RecurrentCell cell : kCells) {
    Block block(context, cell);
    const Tensor nothing(context, {2, 0, kInputs});
    LayerState state;
    CHECK(block.layer.forward(nothing, state).shape() == Shape{2, 0, kHidden});
    CHECK(state.empty());
    block.layer.forward(random(context, {2, 3, kInputs}, 1), state);
    const std::vector<real> before = state.front().to_vector();
    block.layer.forward(nothing, state);
    CHECK(state.front().to_vector() == before);
  }
}

TEST_CASE("recurrent: other sizes, states and conditions are refused") {
  const Context context = test_context();
  Block lstm(context, RecurrentCell::lstm), gru(context, RecurrentCell::gru);
  const Tensor u = random(context, {2, 3, kInputs}, 1);
  LayerState state;
  lstm.layer.forward(u, state);
  LayerState another = state;
  check_refused<UsageError>("[gru] a state must be one of this layer",
                            [&] { gru.layer.forward(u, another); });
  check_refused<UsageError>("(2, 5) and (3, 5)", [&] {
    lstm.layer.forward(random(context, {3, 1, kInputs}, 1), another);
  });
  check_refused<ShapeError>("[lstm] u must be (B, T, inputs), got (2, 3, 4) and 3", [&] {
    lstm.layer.forward(random(context, {2, 3, 4}, 1));
  });
  const Conditions forgets{.state_mask = full(context, {2, 3}, 1)};
  check_refused<ValueError>("[gru] no step of it can forget its state",
                            [&] { gru.layer.forward(u, forgets); });
  for (const RecurrentOptions& options :
       {RecurrentOptions{.inputs = 0}, RecurrentOptions{.hidden = 0},
        RecurrentOptions{.hidden = kMaxSize + 1}}) {
    Rng rng;
    Root root;
    CHECK_THROWS_AS(Recurrent(root, "layer", {context, rng}, options), ValueError);
  }
}

}  // namespace fprnn::tests
