// Word problems and the metrics of answers.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/word_problem.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

std::vector<int32_t> row(const IntTensor& x, int64_t b) {
  const std::vector<int32_t> all = x.to_vector();
  return {all.begin() + b * x.size(1), all.begin() + (b + 1) * x.size(1)};
}

}  // namespace

TEST_CASE("word problem: BOS, then the products so far with the accumulator on the left") {
  const Context context = test_context();
  const Group group = group_named("S4");
  const WordProblem task(group);
  CHECK(task.vocabulary() == 25);
  const Batch batch = task.sample(context, Rng{3, 4}, 50, 11);
  REQUIRE(batch.tokens.shape() == Shape{50, 12});
  REQUIRE(batch.targets.shape() == Shape{50, 12});
  CHECK(batch.mask.shape() == Shape{50, 12});
  CHECK(batch.mask.to_vector() == std::vector<real>(600, 1));
  std::array<int, 24> count{};
  for (int64_t b = 0; b < 50; ++b) {
    const auto tokens = row(batch.tokens, b), targets = row(batch.targets, b);
    CHECK((tokens[0] == 24 && targets[0] == 24));
    int32_t product = group.identity;
    for (size_t t = 1; t < tokens.size(); ++t) {
      REQUIRE((tokens[t] >= 0 && tokens[t] < 24));
      ++count[tokens[t]];
      product = group.product(product, tokens[t]);
      CHECK(targets[t] == product);
    }
  }
  for (const int times : count) CHECK((times > 5 && times < 45));  // 23 expected, deviation 4.7
  CHECK_THROWS_AS(task.sample(context, {}, 0, 5), ValueError);
  CHECK_THROWS_AS(task.sample(context, {}, 5, 0), ValueError);
  CHECK_THROWS_AS(task.sample(context, {}, -1, 5), ValueError);
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const auto& [sequences, length] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {1, kMost}, {kMost, 1}, {2, kMost / 4}, {int64_t{1} << 62, 3}, {1 << 16, 1 << 15}})
    CHECK_THROWS_AS(task.sample(context, {}, sequences, length), ValueError);
}

TEST_CASE("word problem: batches are a pure function of rng") {
  const WordProblem task(group_named("A5"));
  const Context context = context_with(1), other = context_with(3);
  const Rng rng{8, 1};
  const Batch first = task.sample(context, rng, 5, 7);
  task.sample(context, Rng{8, 2}, 2, 3);
  const Batch again = task.sample(other, rng, 5, 7);
  CHECK(first.tokens.to_vector() == again.tokens.to_vector());
  CHECK(first.targets.to_vector() == again.targets.to_vector());
  const Batch fewer = task.sample(context, rng, 2, 7);
  for (const int64_t b : {0, 1}) CHECK(row(fewer.tokens, b) == row(first.tokens, b));
  CHECK(task.sample(context, Rng{8, 2}, 5, 7).tokens.to_vector() != first.tokens.to_vector());
  CHECK(task.sample(context, Rng{9, 1}, 5, 7).tokens.to_vector() != first.tokens.to_vector());
}

TEST_CASE("word problem: training's lengths are uniform, and nothing is asked behind a row's end") {
  constexpr int64_t kRows = 3800, kShortest = 3, kLongest = 40;
  const Context context = test_context();
  const Group group = group_named("S3");
  for (const int64_t spacing : {1, 2})
    for (const Supervise supervise : {Supervise::all, Supervise::last}) {
      INFO(spacing);
      const WordProblem task(group, {.alphabet = spacing == 1 ? "all" : "spaced:2",
                                     .shortest = kShortest,
                                     .supervise = supervise});
      const Batch batch = task.sample(context, Rng{5, 6}, kRows, kLongest);
      const int64_t T = spacing * kLongest + 1;
      REQUIRE(batch.tokens.shape() == Shape{kRows, T});
      const auto tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
      const auto mask = batch.mask.to_vector(), counted = batch.counted.to_vector();
      std::array<int, kLongest + 1> lengths{};
      std::array<int, 8> read{};
      int64_t wrong = 0;
      for (int64_t b = 0; b < kRows; ++b) {
        const int64_t row = b * T;
        int64_t last = T - 1;
        while (last > 0 && mask[row + last] == 0) --last;
        ++lengths[last / spacing];
        int32_t product = group.identity;
        for (int64_t t = 0; t < T; ++t) {
          const bool inside = t > 0 && t <= last, blank = spacing == 2 && t % 2 == 0;
          const int32_t token = tokens[row + t];
          if (inside) ++read[token];
          if (inside && token < 6) product = group.product(product, token);
          wrong += inside ? (blank ? token != 7 : token >= 6) : token != 6;
          const bool label = t % spacing == 0 && t <= last,
                     asked = label && (supervise == Supervise::all || t == last);
          wrong += mask[row + t] != (asked ? 1 : 0);
          wrong += counted[row + t] != (asked && t > 0 ? 1 : 0);
          wrong += inside && asked && targets[row + t] != product;
        }
      }
      CHECK(wrong == 0);
      for (int64_t length = 0; length <= kLongest; ++length)  // 100 each expected, deviation 9.9
        CHECK((length < kShortest ? lengths[length] == 0 : std::abs(lengths[length] - 100) < 50));
      // 13,617 each expected, deviation 110 of the draws and 113 of the lengths.
      for (int x = 0; x < 6; ++x) CHECK(std::abs(read[x] - 13'617) < 800);
      const Batch fewer = task.sample(context, Rng{5, 6}, 2, kLongest);
      for (const int64_t b : {0, 1}) CHECK(row(fewer.tokens, b) == row(batch.tokens, b));
    }
}

TEST_CASE("word problem: an examination asks for every label, however training does") {
  const Context context = test_context();
  const Group group = group_named("S3");
  const WordProblem task(group, {.shortest = 3, .supervise = Supervise::last}), plain(group);
  const Batch asked = task.examination(context, Rng{1, 2}, 20, 9),
              all = plain.examination(context, Rng{1, 2}, 20, 9);
  CHECK(asked.tokens.to_vector() == all.tokens.to_vector());
  CHECK(asked.mask.to_vector() == all.mask.to_vector());
  CHECK(asked.counted.to_vector() == all.counted.to_vector());
  // What is trained is what is judged first.
  const std::vector<Metric> metrics = task.metrics();
  REQUIRE(metrics.size() == 4);
  CHECK(metrics.front().name == "last_token");
  CHECK((metrics.front().of_sequences && metrics.front().caption == "last tokens right"));
  CHECK(metrics[1].name == "whole_sequences");
  CHECK(plain.metrics().front().name == "whole_sequences");
  check_refused<ValueError>("must be 0, for the trained length alone, or a length from 1, got -1",
                            [&] { WordProblem(group, {.shortest = -1}); });
  check_refused<ValueError>("at most the trained length: shortest and length, got 3 and 2",
                            [&] { task.sample(context, {}, 5, 2); });
  check_refused<ValueError>("at most the trained length", [&] { task.check_training(2); });
  CHECK(task.sample(context, {}, 5, 3).tokens.shape() == Shape{5, 4});
}

TEST_CASE("word problem: weights, training and evaluation draw from streams of their own") {
  const Context context = test_context();
  const WordProblem task(group_named("A5"));
  std::set<std::pair<uint64_t, uint64_t>> streams;
  std::set<std::vector<int32_t>> words;
  size_t expected = 0;
  const auto add = [&](const Rng& rng) {
    ++expected;
    streams.emplace(rng.seed, rng.stream);
    const Batch batch = task.sample(context, rng, 2, 8);
    words.insert({row(batch.tokens, 0), row(batch.tokens, 1)});
  };
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    for (const int64_t step : {0, 1, 2, 16, 100, 1'000'000'000}) add(training_stream(seed, step));
    for (const int64_t length : {1, 2, 16, 100, 100'000}) add(evaluation_stream(seed, length));
    Rng weights = initial_stream(seed);
    for (int tensor = 0; tensor < 20; ++tensor) add(weights.next_stream());
  }
  CHECK(streams.size() == expected);
  CHECK(words.size() == 2 * expected);
}

// Who knows the beginning and the sign, of which a class has so many elements, and not which of them.
TEST_CASE("word problem: the loss waits at ln of what is not known, (T - 1) / (T + 1) times") {
  const Context context = test_context();
  constexpr int64_t B = 3, T = 16;
  const auto odd = [](const std::vector<int>& p) {
    int inversions = 0;
    for (size_t i = 0; i < p.size(); ++i)
      for (size_t j = 0; j < i; ++j) inversions += p[j] > p[i];
    return inversions % 2;
  };
  for (const auto& of : {std::pair{"S3", 3}, {"S4", 12}, {"S5", 60}, {"A5", 60}}) {
    INFO(of.first);
    const Group group = group_named(of.first);
    const Batch batch = WordProblem(group).sample(context, Rng{2, 2}, B, T);
    const std::vector<int32_t> targets = batch.targets.to_vector();
    const int64_t V = group.order + 1;
    std::vector<real> logits(B * (T + 1) * V, -200);
    for (size_t i = 0; i < targets.size(); ++i)
      for (int a = 0; a < V; ++a) {
        const bool begins = i % (T + 1) < 2;
        const auto& permutations = group.permutations;
        if (begins ? a == targets[i]
                   : a < group.order && odd(permutations[a]) == odd(permutations[targets[i]]))
          logits[i * V + a] = 0;
      }
    const Tensor all(context, {B, T + 1, V}, logits);
    const IntTensor answers = argmax(all);
    CHECK(nats({batch, answers, all, scores(answers, batch)}).value() ==
          doctest::Approx(std::log(of.second) * (T - 1) / (T + 1)));
  }
}

TEST_CASE("tasks: one without metrics is refused") {
  struct Unjudged : WordProblem {
    using WordProblem::WordProblem;
    std::vector<Metric> metrics() const override { return {}; }
  };
  const Unjudged task(group_named("S3"));
  CHECK(metrics_of(WordProblem(group_named("S3"))).size() == accuracies().size());
  check_refused<UsageError>("one metric at least", [&] { metrics_of(task); });
  const Context context = test_context();
  const auto model = mamba_model(context, initial_stream(0), task.vocabulary(), 1,
                                 {.d_model = 8, .d_state = 4, .layers = 1});
  check_refused<UsageError>("one metric at least",
                            [&] { evaluate(*model, task, context, 0, 4, 2); });
}

namespace {

// answers and targets as one row a sequence, of three positions; `counted` of all of them.
struct Judged {
  Context context = test_context();
  Batch batch;
  IntTensor answers;
  Tensor logits = {};
  Judged(const std::vector<int32_t>& answers, const std::vector<int32_t>& targets,
         const std::vector<real>& mask, const std::vector<real>& counted = {}) {
    const Shape shape{static_cast<int64_t>(targets.size()) / 3, 3};
    this->answers = IntTensor(context, shape, answers);
    batch = {.tokens = int_zeros(context, shape),
             .targets = IntTensor(context, shape, targets),
             .mask = Tensor(context, shape, mask)};
    if (!counted.empty()) batch.counted = Tensor(context, shape, counted);
  }
  Answered answered() const { return {batch, answers, logits, scores(answers, batch)}; }
  // whole sequences, tokens, last token, prefix.
  void check(double whole, double tokens, double last, double prefix) const {
    const Answered answered = this->answered();
    CHECK(whole_sequences(answered).value() == doctest::Approx(whole));
    CHECK(fprnn::tokens(answered).value() == doctest::Approx(tokens));
    CHECK(last_token(answered).value() == doctest::Approx(last));
    CHECK(fprnn::prefix(answered).value() == doctest::Approx(prefix));
  }
};

}  // namespace

TEST_CASE("metrics: whole sequences, tokens, last tokens and prefixes of what the mask counts") {
  const std::vector<int32_t> targets = {5, 6, 7, 5, 6, 7};
  const std::vector<real> all(6, 1);
  Judged({5, 6, 7, 5, 6, 7}, targets, all).check(1, 1, 1, 1);
  Judged({5, 6, 0, 5, 6, 7}, targets, all).check(0.5, 5.0 / 6, 0.5, (2.0 / 3 + 1) / 2);
  Judged({0, 6, 7, 5, 0, 7}, targets, all).check(0, 4.0 / 6, 1, (0 + 1.0 / 3) / 2);
  Judged({0, 0, 0, -1, -1, -1}, targets, all).check(0, 0, 0, 0);
  // What is not counted may be wrong; a weight that is not 0 counts once.
  const std::vector<real> some = {0, real(0.5), 1, 0, 1, 0};
  Judged({0, 6, 7, 0, 6, 0}, targets, some).check(1, 1, 1, 1);
  Judged({5, 6, 0, 5, 0, 7}, targets, some).check(0, 1.0 / 3, 0, (0.5 + 0) / 2);
  // `counted` instead of the mask, and a sequence where nothing counts.
  Judged({5, 0, 0, 0, 0, 0}, targets, all, {1, 0, 0, 0, 0, 0}).check(1, 1, 1, 1);
  Judged({5, 0, 7, 0, 0, 0}, targets, all, {1, 1, 1, 0, 0, 0}).check(0, 2.0 / 3, 1, 1.0 / 3);
  const Judged one({5, 0, 7, 0, 0, 0}, targets, all, {1, 1, 1, 0, 0, 0});
  CHECK(whole_sequences(one.answered()).weight == 1);
  const Judged none(targets, targets, std::vector<real>(6));
  CHECK(std::isnan(last_token(none.answered()).value()));
}

TEST_CASE("metrics: above chance") {
  CHECK(scaled(1, 5) == 1);
  CHECK(scaled(0.2, 5) == 0);
  CHECK(scaled(0, 2) == -1);
  CHECK(scaled(0.6, 5) == doctest::Approx(0.5));
}

TEST_CASE("metrics: batches add up, whatever their sizes") {
  Mean mean;
  mean.add(1, 2);
  mean.add({.sum = 1, .weight = 6});
  CHECK(mean.value() == 3.0 / 8);
  CHECK(std::isnan(Mean().value()));
  CHECK(value_of({.name = "x", .over = {}, .finish = [](double m) { return 8 * m; }}, mean) == 3);
  CHECK(value_of({.name = "x", .over = {}}, mean) == 3.0 / 8);
  const std::vector<Metric> metrics = accuracies();
  CHECK(metrics.front().caption == "whole sequences right");
  CHECK(metrics.front().of_sequences);
  CHECK(metrics.size() == 4);
}

TEST_CASE("metrics: the beginning of a word problem is in the loss and not counted") {
  const Context context = test_context();
  const Batch batch = WordProblem(group_named("S3")).sample(context, Rng{1}, 3, 4);
  CHECK(batch.counted.shape() == batch.mask.shape());
  std::vector<int32_t> answers = batch.targets.to_vector();
  for (int64_t b = 0; b < 3; ++b) answers[b * 5] = 0;  // not BOS
  for (const Score& score : scores(IntTensor(context, {3, 5}, answers), batch)) {
    CHECK(score.counted == 4);
    CHECK(score.right == 4);
    CHECK(score.before_error == 4);
  }
}

// Element 0 is the identity, often the answer; a model that has broken down must not seem to know
// it.
TEST_CASE("metrics: logits that are not numbers are no answers") {
  const Context context = test_context();
  const Tensor logits = full(context, {1, 3, 4}, std::numeric_limits<real>::quiet_NaN());
  const Batch batch{.tokens = int_zeros(context, {1, 3}),
                    .targets = int_zeros(context, {1, 3}),
                    .mask = full(context, {1, 3}, 1)};
  CHECK(scores(argmax(logits), batch)[0].right == 0);
}

TEST_CASE("metrics: shapes must fit") {
  const Context context = test_context();
  const auto batch = [&](const Shape& shape, const Shape& counted) {
    return Batch{.tokens = int_zeros(context, shape),
                 .targets = int_zeros(context, shape),
                 .mask = full(context, shape, 1),
                 .counted = full(context, counted, 1)};
  };
  for (const Shape& shape : {Shape{8}, Shape{4, 2}, Shape{2, 3}, Shape{1, 2, 4}}) {
    CHECK_THROWS_AS(scores(int_zeros(context, shape), batch({2, 4}, {2, 4})), ShapeError);
    CHECK_THROWS_AS(scores(int_zeros(context, {2, 4}), batch({2, 4}, shape)), ShapeError);
  }
  CHECK_THROWS_AS(scores(int_zeros(context, {8}), batch({8}, {8})), ShapeError);
}

}  // namespace fprnn::tests
