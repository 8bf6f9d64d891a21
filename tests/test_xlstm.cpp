// The blocks of the xLSTM: what they refuse, how they start, what they carry.
#include <doctest/doctest.h>
#include <fprnn/models/mlstm.h>
#include <fprnn/models/slstm.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/mlstm.h>

#include <cmath>

#include "close.h"
#include "context.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

template <class Block, class Options>
Block block_of(Module& root, Rng& rng, const Options& options) {
  return Block(root, "block", {test_context(), rng}, options);
}

// The block in chunks of some steps, against the block at once; then what its state refuses.
template <class Block, class Options>
void check_state_of(const Options& options, size_t parts, int64_t T) {
  const Context context = test_context();
  Rng rng;
  Root root;
  Block block(root, "block", {context, rng}, options);
  scramble(block);
  const Tensor x = random(context, {2, T, options.d_model}, 7);
  const std::vector<real> whole = block.forward(x).value().to_vector();
  for (const int64_t length : {1, 3, 64}) {
    LayerState state;
    std::vector<Var> chunks;
    for (int64_t t = 0; t < T; t += length)
      chunks.push_back(block.forward(slice(x, 1, t, std::min(T, t + length)), state));
    check_close("chunks", concat(chunks, 1).value().to_vector(), whole, kDouble ? 1e-12 : 2e-5);
  }
  LayerState state;
  block.forward(Tensor(context, {2, 0, options.d_model}), state);
  REQUIRE(state.size() == parts);
  CHECK(block.forward(x, state).value().to_vector() == whole);
  const auto last = state[0].to_vector();
  block.forward(Tensor(context, {2, 0, options.d_model}), state);
  CHECK(state[0].to_vector() == last);
  check_refused<UsageError>("this layer and batch", [&] {
    block.forward(Tensor(context, {3, 1, options.d_model}), state);
  });
  state.pop_back();
  check_refused<UsageError>("a state must be one of this layer", [&] { block.forward(x, state); });
  check_refused<ValueError>("forget its state", [&] {
    block.forward(x, Conditions{.state_mask = full(context, {2, T}, 1)});
  });
  check_refused<ShapeError>("x must be (B, T, d)", [&] { block.forward(Tensor(context, {2, 8})); });
}

// Matrices decay; norms, biases and the skip do not.
void check_decay(Module& block) {
  for (const NamedParameter& each : block.parameters()) {
    const bool matrix = each.parameter->value.shape().rank() > 1;
    CHECK_MESSAGE(each.parameter->decays == matrix, each.path);
  }
}

}  // namespace

TEST_CASE("xlstm: sizes that do not divide are refused") {
  Rng rng;
  Root root;
  const auto mlstm_refused = [&](const std::string& words, const MlstmOptions& options) {
    check_refused<ValueError>(words, [&] { block_of<Mlstm>(root, rng, options); });
  };
  mlstm_refused("heads must divide the inner width: heads and width, got 3 and 128", {.heads = 3});
  mlstm_refused("qkv_block must divide the inner width: qkv_block and width, got 3 and 128",
                {.qkv_block = 3});
  mlstm_refused("proj_factor times d_model must be 1 to 2^20, got -1 and 64", {.proj_factor = -1});
  mlstm_refused("sizes must be 1 to 2^20, got 0", {.conv_width = 0});
  mlstm_refused("eps must not be negative, got -1", {.eps = -1});
  const auto slstm_refused = [&](const std::string& words, const SlstmOptions& options) {
    check_refused<ValueError>(words, [&] { block_of<Slstm>(root, rng, options); });
  };
  slstm_refused("heads must divide d_model, got 4 and 10", {.d_model = 10});
  slstm_refused("conv_width must not be negative, got -1", {.conv_width = -1});
  slstm_refused("sizes must be 1 to 2^20, got -1", {.ffn_width = -1});
  slstm_refused("eps must not be negative, got -1", {.norm_eps = -1});
}

TEST_CASE("xlstm: each block steps as it reads, and a state is one of the block") {
  check_state_of<Mlstm>(MlstmOptions{.d_model = 8, .heads = 2, .inner = 16}, 4, 70);
  check_state_of<Slstm>(SlstmOptions{.d_model = 8, .heads = 2, .ffn_width = 12}, 5, 11);
  check_state_of<Slstm>(SlstmOptions{.d_model = 8, .conv_width = 0, .ffn = false}, 4, 11);
}

// With eps the result depends on m, whose maxima make differences useless: the definition's own
// gradient is the reference.
TEST_CASE("xlstm: chunks have the gradients of single steps, through the stabiliser too") {
  const Context context = test_context();
  const Shape each{1, 2 * kMlstmChunk + 3, 2, 3}, gate{1, 2 * kMlstmChunk + 3, 2};
  const auto gradients = [&](MlstmResult (*op)(const MlstmInputs&)) {
    Tape tape(context);
    std::vector<Var> x;
    for (const Shape& shape : {each, each, each, gate, gate})
      x.push_back(tape.variable(random(context, shape, 3 + x.size())));
    const Var h =
        op({.q = x[0], .k = x[1], .v = x[2], .igate = x[3], .fgate = x[4], .eps = real(0.5)}).h;
    return tape.vjp({h}, {random(context, each, 9)}, x);
  };
  const std::vector<Tensor> chunks = gradients(mlstm), steps = gradients(mlstm_by_steps);
  for (size_t i = 0; i < chunks.size(); ++i)
    check_close("input " + std::to_string(i), chunks[i].to_vector(), steps[i].to_vector(),
                kDouble ? 1e-13 : 2e-5);
}

TEST_CASE("xlstm: gates start as the authors', and only matrices decay") {
  Rng rng;
  Root root;
  Mlstm block = block_of<Mlstm>(root, rng, MlstmOptions{.d_model = 8});
  CHECK(block.parameter("xlstm.proj_up.weight").value.shape() == Shape{128, 8});
  check_close("forget", block.parameter("xlstm.mlstm_cell.fgate.bias").value.to_vector(),
              std::vector<double>{3, 4, 5, 6}, 1e-6);
  check_decay(block);
  Slstm first = block_of<Slstm>(root, rng, SlstmOptions{.d_model = 12, .layers = 2});
  const auto bias = first.parameter("xlstm.slstm_cell._bias_").value.to_vector();
  CHECK(first.parameter("ffn.proj_up.weight").value.shape() == Shape{128, 12});
  CHECK(bias[0] == 0);
  check_close("forget", std::vector<real>(bias.begin() + 12, bias.begin() + 15),
              std::vector<double>{5, 5 - 12 * std::pow(0.5, 0.3), -7}, 1e-6);
  check_decay(first);
}

}  // namespace fprnn::tests
