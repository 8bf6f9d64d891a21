// Text that a model writes: the filters in their order, ties, stops, and that it is a function of its
// seed.
#include <doctest/doctest.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/sampling.h>
#include <fprnn/tasks/text.h>

#include <cmath>
#include <limits>
#include <set>

#include "named_model.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

const std::vector<real> kLogits = {0, 2, 1, 2, -1};  // 1 and 3 are equal

// How often each id comes over a fine grid of numbers.
std::vector<double> shares(const SamplingOptions& options,
                           const std::vector<real>& logits = kLogits) {
  constexpr int kCount = 20'000;
  std::vector<double> found(logits.size());
  for (int i = 0; i < kCount; ++i) found[pick(logits, options, (i + 0.5) / kCount)] += 1.0 / kCount;
  return found;
}

void check_shares(const std::vector<double>& found, std::vector<double> weights) {
  double sum = 0;
  for (const double weight : weights) sum += weight;
  for (size_t i = 0; i < weights.size(); ++i)
    CHECK_MESSAGE(std::abs(found[i] - weights[i] / sum) < 1e-3, "id ", i, ": ", found[i]);
}

std::unique_ptr<SequenceModel> writer(const Context& context) {
  Rng rng{4, 1};
  auto model = named_model(key_texts("model=fp-mamba d_model=8 d_state=4 layers=1 mixer_scale=1 "
                                     "solver=sequential tolerance=1e-6"),
                           Text::kVocabulary, {context, rng});
  model->parameter("embedding.weight").value = random(context, {Text::kVocabulary, 8}, 5);
  return model;
}

}  // namespace

TEST_CASE("sampling: the softmax at a temperature, and the ends of the numbers") {
  const double e = std::numbers::e;
  check_shares(shares({}), {1, e * e, e, e * e, 1 / e});
  check_shares(shares({.temperature = 2}), {1, e, std::sqrt(e), e, 1 / std::sqrt(e)});
  CHECK(pick(kLogits, {}, 0) == 1);
  CHECK(pick(kLogits, {}, std::nextafter(1.0, 0.0)) == 4);
  check_shares(shares({.temperature = 1e-300}), {0, 1, 0, 1, 0});
}

TEST_CASE("sampling: filters keep the likeliest, of equal ones the lower id, one after the other") {
  const double e = std::numbers::e;
  check_shares(shares({.top_k = 2}), {0, 1, 0, 1, 0});
  check_shares(shares({.top_k = 3}), {0, e, 1, e, 0});
  check_shares(shares({.top_k = 99}), {1, e * e, e, e * e, 1 / e});
  // 1 and 3 have .39 each, 2 has .14, 0 has .05.
  check_shares(shares({.top_p = 0.3}), {0, 1, 0, 0, 0});
  check_shares(shares({.top_p = 0.5}), {0, 1, 0, 1, 0});
  check_shares(shares({.top_p = 0.9}), {0, e, 1, e, 0});
  // Of the two that top_k keeps each has a half; without it one had .39.
  check_shares(shares({.top_k = 2, .top_p = 0.49}), {0, 1, 0, 0, 0});
  check_shares(shares({.top_k = 2, .top_p = 0.51}), {0, 1, 0, 1, 0});
  // At a high temperature all are alike before top_p looks at them.
  check_shares(shares({.temperature = 1e6, .top_p = 0.79}), {1, 1, 1, 1, 0});
}

TEST_CASE("sampling: temperature 0, top_k 1 and top_p 0 all take the first of the largest") {
  for (const SamplingOptions& greedy : {SamplingOptions{.temperature = 0},
                                        SamplingOptions{.top_k = 1}, SamplingOptions{.top_p = 0}})
    check_shares(shares(greedy), {0, 1, 0, 0, 0});
  const Context context = test_context();
  const auto model = writer(context);
  std::set<std::string> texts;
  for (const SamplingOptions& greedy :
       {SamplingOptions{.tokens = 40, .temperature = 0}, SamplingOptions{.tokens = 40, .top_k = 1},
        SamplingOptions{.tokens = 40, .top_p = 0}})
    for (const uint64_t seed : {1, 2})
      texts.insert(sample_text(*model, context, "ab", greedy, {seed, 0}));
  CHECK(texts.size() == 1);
  // It is what whole sequences answer, one token after the other.
  std::vector<int32_t> tokens = {Text::kBorder, 'a', 'b'};
  for (const char byte : *texts.begin()) {
    NoGrad tape(context);
    const auto count = static_cast<int64_t>(tokens.size());
    const auto answers =
        argmax(model->forward(tape, IntTensor(context, {1, count}, tokens)).value()).to_vector();
    CHECK(answers.back() == static_cast<unsigned char>(byte));
    tokens.push_back(static_cast<unsigned char>(byte));
  }
}

TEST_CASE("sampling: same seed, same bytes; another seed or prompt, others") {
  const Context context = test_context();
  const auto model = writer(context);
  const auto text = [&](uint64_t seed, const std::string& prompt, int64_t count = 50) {
    return sample_text(*model, context, prompt, {.tokens = count, .temperature = 3}, {seed, 7});
  };
  CHECK(text(1, "") == text(1, ""));
  CHECK(text(1, "") != text(2, ""));
  CHECK(text(1, "") != text(1, "x"));
  CHECK(text(1, "").starts_with(text(1, "", 20)));
  CHECK(text(1, "", 0).empty());
  CHECK(text(1, std::string(5000, 'y')).size() <= 50);
}

TEST_CASE("sampling: a stop ends a text wherever its bytes were drawn, and is not part of it") {
  const Context context = test_context();
  const auto model = writer(context);
  SamplingOptions options{.tokens = 60, .temperature = 3};
  const std::string free = sample_text(*model, context, "", options, {3, 0});
  REQUIRE(free.size() > 20);
  const std::string stop = free.substr(10, 4);
  options.stops = {"no such text", stop};
  CHECK(sample_text(*model, context, "", options, {3, 0}) == free.substr(0, free.find(stop)));
  // The one that is complete first, though another begins before it.
  options.stops = {free.substr(10, 8), free.substr(12, 2)};
  CHECK(sample_text(*model, context, "", options, {3, 0}) ==
        free.substr(0, free.find(options.stops[1])));
  // What a prompt ends with stops nothing.
  options.stops = {"prompt"};
  CHECK(!sample_text(*model, context, "prompt", options, {3, 0}).empty());
}

TEST_CASE("sampling: texts that stop, as one says them") {
  using Texts = std::vector<std::string>;
  CHECK(stops_of("") == Texts{});
  CHECK(stops_of("a b") == Texts{"a b"});
  CHECK(stops_of("a|bc") == Texts{"a", "bc"});
  CHECK(stops_of("\\n\\t\\r|\\\\\\|") == Texts{"\n\t\r", "\\|"});
  CHECK(stops_of("\\x00\\xFfz") == Texts{std::string("\0\xffz", 3)});
  CHECK(stops_of("a|") == Texts{"a", ""});
  for (const char* wrong : {"\\", "a\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x0"})
    CHECK_THROWS_AS(stops_of(wrong), ValueError);
}

TEST_CASE("sampling: numbers out of range are refused, and logits that are none") {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const double temperature : {-1.0, nan, infinity})
    CHECK_THROWS_AS(check(SamplingOptions{.temperature = temperature}), ValueError);
  for (const double top_p : {-0.1, 1.1, 2.0, nan})
    CHECK_THROWS_AS(check(SamplingOptions{.top_p = top_p}), ValueError);
  CHECK_THROWS_AS(check(SamplingOptions{.top_k = -1}), ValueError);
  CHECK_THROWS_AS(check(SamplingOptions{.tokens = -1}), ValueError);
  CHECK_THROWS_AS(check(SamplingOptions{.tokens = (1 << 24) + 1}), ValueError);
  CHECK_THROWS_AS(check(SamplingOptions{.stops = {"a", ""}}), ValueError);
  CHECK(check(SamplingOptions{.temperature = 0, .top_p = 0}).tokens == 256);
  const real none = std::numeric_limits<real>::quiet_NaN();
  CHECK_THROWS_AS(pick(std::vector<real>{0, none}, {}, 0.5), Error);
}

TEST_CASE("text: bytes that are no UTF-8 are escaped, others stay") {
  CHECK(escaped("aß\n") == "aß\n");
  CHECK(escaped("\xff"
                "a\xc3") == "\\xffa\\xc3");
  CHECK(is_utf8("aß"));
  CHECK(is_utf8(""));
  CHECK(!is_utf8("a\xc3"));
}

}  // namespace fprnn::tests
