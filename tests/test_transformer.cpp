// The Transformer: what its positions mean, its cache and what it refuses.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/transformer.h>
#include <fprnn/ops/layout.h>

#include <cmath>

#include "close.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

// One sequence whose keys are all the same, so that positions alone decide.
Var with_equal_keys(const Context& context, const std::vector<real>& values, Tensor slopes,
                    IntTensor windows) {
  const auto T = static_cast<int64_t>(values.size());
  const Tensor ones = full(context, {1, T, 1, 1}, 1);
  return attention({.q = ones,
                    .k = ones,
                    .v = Tensor(context, {1, T, 1, 1}, values),
                    .slopes = std::move(slopes),
                    .windows = std::move(windows)});
}

std::vector<real> rounded(const Var& x) {
  std::vector<real> values = x.value().to_vector();
  for (real& value : values) value = std::round(value * 64) / 64;
  return values;
}

}  // namespace

TEST_CASE("attention: equal keys give the mean, a window the mean of the last, a slope the last") {
  const Context context = test_context();
  const std::vector<real> values{4, 8, 0, 4};
  CHECK(rounded(with_equal_keys(context, values, {}, {})) == std::vector<real>{4, 6, 4, 4});
  const IntTensor two(context, Shape{1}, std::vector<int32_t>{2});
  CHECK(rounded(with_equal_keys(context, values, {}, two)) == std::vector<real>{4, 6, 4, 2});
  CHECK(rounded(with_equal_keys(context, values, full(context, Shape{1}, 100), {})) == values);
}

TEST_CASE("attention: large scores neither overflow nor lose the others") {
  const Context context = test_context();
  const real large = kDouble ? real(1e150) : real(1e18);
  const Tensor q = full(context, {1, 3, 1, 1}, large);
  const Tensor k(context, {1, 3, 1, 1}, std::vector<real>{-large, large, large});
  const Tensor v(context, {1, 3, 1, 1}, std::vector<real>{4, 8, 16});
  CHECK(rounded(attention({.q = q, .k = k, .v = v})) == std::vector<real>{4, 8, 12});
}

TEST_CASE("rotary: a score depends on how far apart two tokens are, and lengths stay") {
  const Context context = test_context();
  const Tensor x = random(context, {1, 1, 1, 8}, 1), y = random(context, {1, 1, 1, 8}, 2);
  const auto score = [&](int64_t at, int64_t and_at) {
    const auto a = rotary(x, 6, 100, at).value().to_vector();
    const auto b = rotary(y, 6, 100, and_at).value().to_vector();
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * b[i];
    return sum;
  };
  CHECK(score(5, 2) == doctest::Approx(score(103, 100)).epsilon(kDouble ? 1e-10 : 1e-4));
  CHECK(std::abs(score(5, 2) - score(2, 5)) > 1e-3);
  CHECK(length(rotary(x, 6, 100, 77).value().to_vector()) ==
        doctest::Approx(length(x.to_vector())).epsilon(1e-6));
}

TEST_CASE("transformer: ALiBi's slopes, also where heads are no power of two") {
  const Context context = test_context();
  const auto slopes = [&](int64_t heads) { return alibi_slopes(context, heads).to_vector(); };
  CHECK(slopes(1) == std::vector<real>{real(0x1p-8)});
  CHECK(slopes(4) == std::vector<real>{real(0.25), real(0.0625), real(0x1p-6), real(0x1p-8)});
  // Of those for 4 the 2nd and 4th, then the 1st; of those for 8 likewise, then the 1st and 3rd.
  CHECK(slopes(3) == std::vector<real>{real(0.0625), real(0x1p-8), real(0.25)});
  CHECK(slopes(6) == std::vector<real>{real(0.25), real(0.0625), real(0x1p-6), real(0x1p-8),
                                       real(0.5), real(0.125)});
}

TEST_CASE("transformer: all positions and residuals agree in chunks, and look at no later token") {
  const Context context = test_context();
  for (const Positions positions :
       {Positions::none, Positions::rope, Positions::alibi, Positions::hard_alibi})
    for (const bool parallel : {false, true}) {
      Rng rng{.seed = 3};
      Root root;
      Transformer block(
          root, "block", {context, rng},
          {.attention = {.d_model = 12, .heads = 3, .positions = positions, .rotary_pct = 0.5},
           .parallel_residual = parallel});
      scramble(block);
      const Tensor x = random(context, {2, 75, 12}, 1);
      const Var whole = block.forward(x);
      const Var earlier = block.forward(slice(x, 1, 0, 70));
      check_close("earlier", slice(whole, 1, 0, 70).value().to_vector(),
                  earlier.value().to_vector(), kDouble ? 1e-12 : 1e-5);
      for (const std::vector<int64_t>& lengths :
           {std::vector<int64_t>(75, 1), {1, 0, 3, 66, 5}, {64, 11}}) {
        LayerState state;
        Vars parts;
        int64_t t = 0;
        for (const int64_t length : lengths) {
          parts.push_back(block.forward(slice(x, 1, t, t + length), state));
          t += length;
        }
        CHECK(state[0].shape() == Shape{2, 75, 3, 4});
        check_close("chunks", concat(parts, 1).value().to_vector(), whole.value().to_vector(),
                    kDouble ? 1e-12 : 1e-5);
      }
    }
}

// Heads that see only the last tokens, all of them: what came before has no influence.
TEST_CASE("transformer: hard ALiBi's heads see as many tokens as their number says") {
  const Context context = test_context();
  Rng rng{.seed = 3};
  Root root;
  Transformer block(
      root, "block", {context, rng},
      {.attention = {
           .d_model = 8, .heads = 2, .positions = Positions::hard_alibi, .hard_alibi_heads = 2}});
  scramble(block);
  const auto last = [&](real first, real second) {
    std::vector<real> values = random(context, {1, 5, 8}, 1).to_vector();
    values[2 * 8] += first;   // two tokens back
    values[3 * 8] += second;  // one token back
    const Var y = block.forward(Tensor(context, {1, 5, 8}, values));
    return slice(y, 1, 4, 5).value().to_vector();
  };
  CHECK(same_bits(last(0, 0), last(1, 0)));
  CHECK(!same_bits(last(0, 0), last(0, 1)));
}

TEST_CASE("transformer: sizes, states and lengths that it cannot take are refused") {
  const Context context = test_context();
  Rng rng;
  Root root;
  const auto refused = [&](const std::string& words, const TransformerOptions& options) {
    check_refused<ValueError>(words, [&] {
      Transformer(root, "block", Init{context, rng}, options);
    });
  };
  refused("heads must divide d_model: d_model and heads, got 64 and 5",
          {.attention = {.heads = 5}});
  refused("an even number of them: rotary_pct and channels, got 0.3 and 16",
          {.attention = {.rotary_pct = 0.3}});
  refused("an even number of them", {.attention = {.rotary_pct = 1.5}});
  refused("rotary_base must be positive, got 0", {.attention = {.rotary_base = 0}});
  refused("hard_alibi_heads must be 0 to heads, got 5 and 4",
          {.attention = {.hard_alibi_heads = 5}});
  refused("eps must not be negative", {.eps = -1});
  for (const TransformerOptions& options : {TransformerOptions{.attention = {.d_model = 0}},
                                            {.attention = {.heads = 0}},
                                            {.intermediate = -1},
                                            {.attention = {.max_length = 0}}})
    refused("sizes must be 1 to 2^20", options);
  check_refused<ValueError>("got 'rotary'", [] { positions_named("rotary"); });

  Transformer block(root, "block", {context, rng},
                    {.attention = {.d_model = 8, .heads = 2, .max_length = 5}});
  const auto x = [&](int64_t B, int64_t T) { return Var(zeros(context, {B, T, 8})); };
  const std::string limit = "not be longer than the cache: tokens and max_length, got 6 and 5";
  check_refused<ValueError>(limit, [&] { block.forward(x(2, 6)); });
  LayerState state;
  block.forward(x(2, 4), state);
  check_refused<ValueError>(limit, [&] { block.forward(x(2, 2), state); });
  CHECK(state[0].size(1) == 4);
  block.forward(x(2, 1), state);
  check_refused<ValueError>(limit, [&] { block.forward(x(2, 1), state); });
  check_refused<UsageError>("this layer and batch", [&] { block.forward(x(3, 0), state); });
  check_refused<ShapeError>("x must be (B, T, d)", [&] { block.forward(zeros(context, {2, 8})); });
  check_refused<ValueError>("forget its state", [&] {
    block.forward(x(2, 3), Conditions{.state_mask = full(context, {2, 3}, 1)});
  });
}

}  // namespace fprnn::tests
