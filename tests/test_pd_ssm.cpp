// PD-SSM: the gradient straight through its choice, and the layer: parameters, states, automata,
// and what it refuses.
#include <doctest/doctest.h>
#include <fprnn/models/pd_ssm.h>
#include <fprnn/ops/layout.h>

#include <cmath>

#include "close.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kB = 2, kT = 7, kModel = 4, kStates = 5;

struct Block {
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  PdSsm layer;

  explicit Block(const Context& context, bool starts_at_one = true)
      : layer(root, "layer", {context, rng},
              {.d_model = kModel,
               .d_state = kStates,
               .dictionary_size = 3,
               .starts_at_one = starts_at_one}) {}
};

}  // namespace

TEST_CASE("pd_scan: gradients are those of its parts, where they go straight through too") {
  const Context context = test_context();
  for (const OneHot one_hot : {OneHot::column, OneHot::row})
    for (const auto& [N, K] : {std::pair<int64_t, int64_t>{3, 4}, {21, 4}, {40, 20}, {70, 4}}) {
      constexpr int64_t kSequences = 40;  // tokens of more than one block
      Tape tape(context);
      const std::vector<Var> x{
          tape.variable(random(context, {kSequences, kT, K}, 1, 2)),
          tape.variable(random(context, {N, N, K}, 2)),
          tape.variable(random(context, {kSequences, kT, 2 * N}, 3, real(0.7))),
          tape.variable(random(context, {kSequences, kT, 2 * N}, 4)),
          tape.variable(random(context, {kSequences, 2 * N}, 5))};
      const PdScanInputs in{.selection = x[0],
                            .dictionary = x[1],
                            .d = x[2],
                            .b = x[3],
                            .h0 = x[4],
                            .one_hot = one_hot};
      const std::vector<Tensor> seeds{random(context, {kSequences, kT, 2 * N}, 6)};
      const auto whole = tape.vjp({pd_scan(in)}, seeds, x);
      const auto parts = tape.vjp({pd_scan_by_parts(in)}, seeds, x);
      for (size_t i = 0; i < x.size(); ++i)
        check_close("gradient " + std::to_string(i), whole[i].to_vector(), parts[i].to_vector(),
                    kDouble ? 1e-12 : 1e-4);
    }
}

TEST_CASE("pd_ssm: parameters have their shapes, and only weights decay") {
  Block block(test_context());
  const auto shape = [&](const char* name) { return block.layer.parameter(name).value.shape(); };
  CHECK(shape("A_dict") == Shape{kStates, kStates, 3});
  CHECK(shape("B_im") == Shape{kStates, kModel});
  CHECK(shape("D_phase_generator.0.weight") == Shape{2 * kStates, kModel});
  CHECK(shape("D_magnitude_generator.2.bias") == Shape{kStates});
  CHECK(shape("readout.weight") == Shape{kModel, 2 * kStates});
  CHECK(shape("S.weight") == Shape{3, kModel});
  for (const auto& [path, parameter] : block.layer.parameters())
    CHECK(parameter->decays == (parameter->value.shape().rank() > 1));
}

TEST_CASE("pd_ssm: chunks with their states are the whole sequence, and gradients pass through") {
  const Context context = test_context();
  for (const bool starts_at_one : {true, false}) {
    Block block(context, starts_at_one);
    scramble(block.layer);
    Tape tape(context);
    const Var u = tape.variable(random(context, {kB, kT, kModel}, 5));
    std::vector<Var> wanted{u};
    for (const auto& [path, parameter] : block.layer.parameters())
      wanted.push_back(tape.leaf(*parameter));
    const std::vector<Tensor> seeds{random(context, {kB, kT, kModel}, 6)};
    const Var whole = block.layer.forward(u);
    const auto gradients = tape.vjp({whole}, seeds, wanted);
    const double near = kDouble ? 1e-12 : 1e-4;
    for (const int64_t length : {1, 3}) {
      Var h;
      LayerState values;
      std::vector<Var> parts, plain;
      for (int64_t t = 0; t < kT; t += length) {
        const Var chunk = slice(u, 1, t, std::min(kT, t + length));
        parts.push_back(block.layer.forward(chunk, h));
        plain.push_back(block.layer.forward(chunk.value(), values));
      }
      check_close("values", concat(plain, 1).value().to_vector(), whole.value().to_vector(), near);
      const auto of_chunks = tape.vjp({concat(parts, 1)}, seeds, wanted);
      for (size_t i = 0; i < wanted.size(); ++i)
        check_close("gradient", of_chunks[i].to_vector(), gradients[i].to_vector(), 10 * near);
    }
  }
}

// The scan is an automaton where the dictionary holds its transitions and D is 1.
TEST_CASE("pd_scan: an automaton whose transitions merge states is followed without an error") {
  const Context context = test_context();
  constexpr int64_t kN = 4, kLong = 500;
  const int next[2][kN] = {{1, 2, 3, 0}, {2, 2, 0, 3}};  // of each token and state
  std::vector<real> dictionary(kN * kN * 2), selection(kLong * 2), d(kLong * 2 * kN), h0(2 * kN);
  for (int k = 0; k < 2; ++k)
    for (int j = 0; j < kN; ++j) dictionary[(next[k][j] * kN + j) * 2 + k] = 1;
  std::vector<int> states;
  for (int64_t t = 0; t < kLong; ++t) {
    const int token = t * t % 7 < 3 ? 0 : 1;
    selection[t * 2 + token] = 5;
    std::fill_n(d.begin() + t * 2 * kN, kN, real(1));
    states.push_back(next[token][t > 0 ? states.back() : 0]);
  }
  h0[0] = 1;
  const auto tensor = [&](const Shape& shape, const std::vector<real>& values) {
    return Tensor(context, shape, values);
  };
  const std::vector<real> h = pd_scan({.selection = tensor({1, kLong, 2}, selection),
                                       .dictionary = tensor({kN, kN, 2}, dictionary),
                                       .d = tensor({1, kLong, 2 * kN}, d),
                                       .b = zeros(context, {1, kLong, 2 * kN}),
                                       .h0 = tensor({1, 2 * kN}, h0)})
                                  .value()
                                  .to_vector();
  for (int64_t t = 0; t < kLong; ++t)
    for (int64_t i = 0; i < 2 * kN; ++i) CHECK(h[t * 2 * kN + i] == (i == states[t] ? 1 : 0));
}

TEST_CASE("pd_ssm: other sizes, states and conditions are refused") {
  const Context context = test_context();
  Block block(context);
  const Tensor u = random(context, {2, 3, kModel}, 1);
  LayerState state;
  block.layer.forward(u, state);
  check_refused<UsageError>("[pd_ssm] a state must be one of this layer and batch", [&] {
    block.layer.forward(random(context, {3, 1, kModel}, 1), state);
  });
  check_refused<ShapeError>("[pd_ssm] u must be (B, T, d), got (2, 3, 5) and 4", [&] {
    block.layer.forward(random(context, {2, 3, 5}, 1));
  });
  const Conditions forgets{.state_mask = full(context, {2, 3}, 1)};
  check_refused<ValueError>("[pd_ssm] no step of it can forget its state",
                            [&] { block.layer.forward(u, forgets); });
  for (const PdSsmOptions& options :
       {PdSsmOptions{.d_model = 0}, PdSsmOptions{.d_state = 0},
        PdSsmOptions{.dictionary_size = kMaxSize + 1}, PdSsmOptions{.hidden_multiple = 0},
        PdSsmOptions{.d_state = kMaxSize, .hidden_multiple = kMaxSize}}) {
    Rng rng;
    Root root;
    CHECK_THROWS_AS(PdSsm(root, "layer", {context, rng}, options), ValueError);
  }
}

}  // namespace fprnn::tests
