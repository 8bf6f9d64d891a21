// The delta rule as a memory and as a product of reflections, and the layers over it.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/delta_net.h>
#include <fprnn/ops/delta_rule.h>

#include <cmath>

#include "close.h"
#include "context.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

// A head of n sub-steps a token with beta = 2 at these keys (T n, d_k), from the state on; what is
// written is 0.
DeltaRuleResult reflect(const Context& context, int64_t n, const std::vector<real>& keys,
                        const Tensor& state) {
  const int64_t K = state.size(2), V = state.size(3);
  const int64_t T = static_cast<int64_t>(keys.size()) / K / n;
  return delta_rule({.q = full(context, {1, T, 1, K}, 1),
                     .k = Tensor(context, {1, T, n, 1, K}, keys),
                     .v = zeros(context, {1, T, n, 1, V}),
                     .beta = full(context, {1, T, n, 1}, 2),
                     .state = state});
}

DeltaNet layer_of(Module& root, Rng& rng, const DeltaNetOptions& options) {
  return DeltaNet(root, "layer", {test_context(), rng}, options);
}

}  // namespace

TEST_CASE("delta rule: what was written at a key is read at it, whatever lies at orthogonal ones") {
  const Context context = test_context();
  const auto read =
      delta_rule({.q = Tensor(context, {1, 3, 1, 2}, std::vector<real>{1, 0, 0, 1, 1, 0}),
                  .k = Tensor(context, {1, 3, 1, 1, 2}, std::vector<real>{1, 0, 0, 1, 1, 0}),
                  .v = Tensor(context, {1, 3, 1, 1, 1}, std::vector<real>{5, 7, 9}),
                  .beta = full(context, {1, 3, 1, 1}, 1)});
  CHECK(read.o.value().to_vector() == std::vector<real>{5, 7, 9});
  CHECK(read.state.value().to_vector() == std::vector<real>{9, 7});
}

// A rotation by a third of a circle is two reflections, so that a token of n = 2 is an element of
// order 3, and one of n = 1 an element of order 2.
TEST_CASE("delta rule: with beta 2 a sub-step is a reflection and two are a rotation") {
  const Context context = test_context();
  const real c = std::cos(real(1.0471975511965976)), s = std::sin(real(1.0471975511965976));
  const std::vector<real> start = {1, 2, 3, 4};
  const Tensor state(context, {1, 1, 2, 2}, start);
  std::vector<real> keys;
  for (int token = 1; token <= 6; ++token) {
    keys.insert(keys.end(), {1, 0, c, s});
    const auto rotated = reflect(context, 2, keys, state).state.value().to_vector();
    const double moved = relative_error(rotated, start);
    CHECK((moved < (kDouble ? 1e-12 : 1e-5)) == (token % 3 == 0));
  }
  const auto once = reflect(context, 1, {c, s}, state).state.value().to_vector();
  CHECK(relative_error(once, start) > 0.1);
  const auto twice = reflect(context, 1, {c, s, c, s}, state).state.value().to_vector();
  check_close("twice", twice, start, kDouble ? 1e-12 : 1e-5);
}

TEST_CASE("delta net: sizes that do not divide are refused") {
  Rng rng;
  Module root;
  const auto refused = [&](const std::string& words, const DeltaNetOptions& options) {
    check_refused<ValueError>(words, [&] { layer_of(root, rng, options); });
  };
  refused("d_model must be a multiple of heads where head_dim is not given, got 10 and 4",
          {.d_model = 10});
  refused("value_heads must be a multiple of heads, got 6 and 4", {.value_heads = 6});
  refused("a whole number of channels: expand_v and d_k, got 1.3 and 16", {.expand_v = 1.3});
  refused("whole number", {.expand_v = 0});
  refused("whole number", {.expand_v = std::nan("")});
  refused("conv_width must not be negative, got -1", {.conv_width = -1});
  refused("eps must not be negative", {.l2_eps = -1});
  for (const DeltaNetOptions& options : {DeltaNetOptions{.d_model = 0},
                                         {.heads = 0},
                                         {.head_dim = -1},
                                         {.householder = 0},
                                         {.d_model = 64, .heads = 1 << 10, .head_dim = 1 << 11}})
    CHECK_THROWS_AS(layer_of(root, rng, options), ValueError);
}

TEST_CASE("delta net: a state is one of the layer, and no steps leave it as it was") {
  const Context context = test_context();
  Rng rng;
  Module root;
  DeltaNet layer(root, "layer", {context, rng}, {.d_model = 8, .heads = 2, .householder = 2});
  const Tensor u = uniform(context, {2, 5, 8}, -1, 1, rng);
  LayerState state;
  layer.forward(u, state);
  REQUIRE(state.size() == 4);
  const auto memory = state[0].to_vector(), keys = state[2].to_vector();
  CHECK(layer.forward(Tensor(context, {2, 0, 8}), state).shape() == Shape{2, 0, 8});
  CHECK(state[0].to_vector() == memory);
  CHECK(state[2].to_vector() == keys);
  check_refused<UsageError>("this layer and batch", [&] {
    layer.forward(Tensor(context, {3, 1, 8}), state);
  });
  state.pop_back();
  check_refused<UsageError>("a state must be one of this layer", [&] { layer.forward(u, state); });
  check_refused<ValueError>("forget its state", [&] {
    layer.forward(u, Conditions{.state_mask = full(context, {2, 5}, 1)});
  });
  check_refused<ShapeError>("u must be (B, T, d)", [&] { layer.forward(Tensor(context, {2, 8})); });
}

}  // namespace fprnn::tests
