// Recall: what rows of both tasks are made of, by which laws they are drawn, and how answers count.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/recall_tasks.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "context.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

using Filler = Mqar::Filler;

Mqar mqar(const std::string& keys, int64_t vocabulary = 64, Filler filler = Filler::zeros,
          double power = 0.01) {
  return Mqar(
      {.vocabulary = vocabulary, .keys = keys_by_length(keys), .filler = filler, .power = power});
}
SelectiveCopying selective(const std::string& keys, int64_t vocabulary = 16) {
  return SelectiveCopying(vocabulary, keys_by_length(keys));
}

struct Line {
  std::vector<int32_t> tokens, targets;
  std::vector<real> mask;
};
std::vector<Line> lines(const Batch& batch) {
  const auto tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
  const auto mask = batch.mask.to_vector();
  const int64_t B = batch.tokens.size(0), T = batch.tokens.size(1);
  std::vector<Line> lines(B);
  for (int64_t b = 0; b < B; ++b) {
    const auto cut = [&](const auto& all, auto& to) {
      to.assign(all.begin() + b * T, all.begin() + (b + 1) * T);
    };
    cut(tokens, lines[b].tokens);
    cut(targets, lines[b].targets);
    cut(mask, lines[b].mask);
  }
  return lines;
}

// Pairs first; each key asked for once, at the head of a slot; nothing but filler elsewhere.
void check_mqar(const Line& line, int64_t V, int64_t k, bool zeros) {
  std::set<int32_t> keys, values, asked;
  for (int64_t i = 0; i < k; ++i) {
    const int32_t key = line.tokens[2 * i], value = line.tokens[2 * i + 1];
    REQUIRE((key >= 1 && key < V / 2));
    REQUIRE((value >= V / 2 && value < V));
    keys.insert(key);
    values.insert(value);
  }
  REQUIRE((int64_t(keys.size()) == k && int64_t(values.size()) == k));
  for (size_t t = 0; t < line.tokens.size(); ++t) {
    REQUIRE((line.tokens[t] >= 0 && line.tokens[t] < V));
    if (line.mask[t] == 0) {
      REQUIRE(line.targets[t] == 0);
      if (zeros && int64_t(t) >= 2 * k) REQUIRE(line.tokens[t] == 0);
      continue;
    }
    REQUIRE((line.mask[t] == 1 && int64_t(t) >= 2 * k && t % 2 == 0));
    const auto key = std::find(line.tokens.begin(), line.tokens.begin() + 2 * k, line.tokens[t]);
    REQUIRE((key - line.tokens.begin()) % 2 == 0);
    REQUIRE(line.targets[t] == *(key + 1));
    asked.insert(line.tokens[t]);
  }
  REQUIRE(asked == keys);
  REQUIRE(std::accumulate(line.mask.begin(), line.mask.end(), real(0)) == k);
}

// In which slot each key of each row is asked for.
std::vector<std::vector<int64_t>> slots_of_keys(const Batch& batch, int64_t k) {
  std::vector<std::vector<int64_t>> slots;
  for (const Line& line : lines(batch)) {
    std::vector<int64_t>& of_row = slots.emplace_back();
    for (int64_t i = 0; i < k; ++i) {
      const auto at = std::find(line.tokens.begin() + 2 * k, line.tokens.end(), line.tokens[2 * i]);
      of_row.push_back((at - line.tokens.begin() - 2 * k) / 2);
    }
  }
  return slots;
}

// That an event of probability p came `times` in n draws: within 4.5 standard deviations.
void check_times(double times, double n, double p) {
  INFO(times << " of " << n << ", expected " << n * p);
  CHECK(std::abs(times - n * p) <= 4.5 * std::sqrt(n * p * (1 - p)));
}

// The loss of logits 0 for these tokens and far below for the others.
double uniform_loss(const Batch& batch, int64_t V, int64_t first, int64_t last) {
  const Context context = test_context();
  const int64_t B = batch.tokens.size(0), T = batch.tokens.size(1);
  std::vector<real> logits(B * T * V, -100);
  for (int64_t i = 0; i < B * T; ++i)
    std::fill(logits.begin() + i * V + first, logits.begin() + i * V + last + 1, real(0));
  const Tensor all(context, {B, T, V}, logits);
  const IntTensor answers = argmax(all);
  return nats({batch, answers, all, scores(answers, batch)}).value();
}

}  // namespace

TEST_CASE("recall: mqar has k labels a row, each the value after its key; keys are distinct") {
  const Context context = test_context();
  struct Case {
    int64_t V, T, k;
  };
  for (const Case& c : {Case{64, 64, 4}, Case{64, 32, 4}, Case{64, 16, 4}, Case{4, 4, 1},
                        Case{9, 13, 3}, Case{64, 65, 16}, Case{64, 128, 31}, Case{8192, 256, 64}})
    for (const Filler filler : {Filler::zeros, Filler::random}) {
      CAPTURE(c.T);
      CAPTURE(c.k);
      const Mqar task = mqar(std::to_string(c.k), c.V, filler);
      CHECK(task.vocabulary() == c.V);
      const Batch batch = task.sample(context, Rng{3, 4}, 40, c.T);
      REQUIRE(batch.tokens.shape() == Shape{40, c.T});
      REQUIRE(batch.targets.shape() == Shape{40, c.T});
      REQUIRE(batch.mask.shape() == Shape{40, c.T});
      CHECK(!batch.counted.defined());
      for (const Line& line : lines(batch)) check_mqar(line, c.V, c.k, filler == Filler::zeros);
    }
}

TEST_CASE("recall: mqar's first key takes the first slot with probability .251 at 64/4") {
  constexpr int64_t kRows = 20'000, kSlots = 28;
  const Batch batch = mqar("4").sample(test_context(), Rng{5, 6}, kRows, 64);
  std::vector<double> p(kSlots);
  for (int64_t i = 0; i < kSlots; ++i) p[i] = std::pow(i + 1.0, 0.01 - 1);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& each : p) each /= sum;
  CHECK(p[0] == doctest::Approx(0.251).epsilon(0.002));
  double second_after = 0;  // the second key takes the first slot, which the first one left
  for (int64_t i = 1; i < kSlots; ++i) second_after += p[i] * p[0] / (1 - p[i]);
  std::vector<double> first(kSlots);
  double second = 0;
  for (const std::vector<int64_t>& slots : slots_of_keys(batch, 4)) {
    ++first[slots[0]];
    second += slots[1] == 0;
  }
  for (int64_t i = 0; i < kSlots; ++i) check_times(first[i], kRows, p[i]);
  check_times(second, kRows, second_after);
}

TEST_CASE("recall: mqar of power 1 takes all slots alike, and values are uniform") {
  constexpr int64_t kRows = 20'000;
  const Batch batch = mqar("4", 64, Filler::zeros, 1).sample(test_context(), Rng{5, 6}, kRows, 64);
  std::vector<double> slot(28), value(64), key(32);
  for (const std::vector<int64_t>& slots : slots_of_keys(batch, 4))
    for (const int64_t i : slots) ++slot[i];
  for (const Line& line : lines(batch))
    for (size_t t = 0; t < line.tokens.size(); ++t)
      if (line.mask[t] != 0) {
        ++value[line.targets[t]];
        ++key[line.tokens[t]];
      }
  for (const double times : slot) check_times(times, kRows, 4 / 28.0);
  for (size_t id = 0; id < value.size(); ++id)
    check_times(value[id], kRows, id < 32 ? 0 : 4 / 32.0);
  for (size_t id = 1; id < key.size(); ++id) check_times(key[id], kRows, 4 / 31.0);
}

TEST_CASE("recall: mqar's random filler is any token, and changes nothing else") {
  const Context context = test_context();
  const Batch zeros = mqar("4").sample(context, Rng{1, 2}, 500, 32),
              random = mqar("4", 64, Filler::random).sample(context, Rng{1, 2}, 500, 32);
  CHECK(zeros.targets.to_vector() == random.targets.to_vector());
  CHECK(zeros.mask.to_vector() == random.mask.to_vector());
  std::vector<double> filler(64);
  const std::vector<Line> plain = lines(zeros), filled = lines(random);
  for (size_t b = 0; b < plain.size(); ++b)
    for (size_t t = 0; t < plain[b].tokens.size(); ++t) {
      if (plain[b].tokens[t] == 0)
        ++filler[filled[b].tokens[t]];
      else
        REQUIRE(plain[b].tokens[t] == filled[b].tokens[t]);
    }
  for (const double times : filler) check_times(times, 500 * 20, 1 / 64.0);
}

TEST_CASE("recall: selective copying asks for the data in their order, wherever they are") {
  constexpr int64_t kRows = 4000, kPlaces = 20, kData = 4;
  const SelectiveCopying task = selective("4");
  CHECK(task.vocabulary() == 16);
  const Batch batch = task.sample(test_context(), Rng{2, 3}, kRows, kPlaces);
  REQUIRE(batch.tokens.shape() == Shape{kRows, kPlaces + kData});
  std::vector<double> at(kPlaces), kind(16);
  for (const Line& line : lines(batch)) {
    std::vector<int32_t> data;
    for (int64_t t = 0; t < kPlaces; ++t) {
      REQUIRE((line.mask[t] == 0 && line.targets[t] == 0));
      if (line.tokens[t] == 0) continue;
      data.push_back(line.tokens[t]);
      ++at[t];
      ++kind[line.tokens[t]];
    }
    REQUIRE(data == std::vector<int32_t>(line.targets.begin() + kPlaces, line.targets.end()));
    REQUIRE(int64_t(data.size()) == kData);
    for (int64_t t = kPlaces; t < kPlaces + kData; ++t)
      REQUIRE((line.tokens[t] == 15 && line.mask[t] == 1));
  }
  // The last place too: often there is noise after the last datum.
  for (const double times : at) check_times(times, kRows, 1.0 * kData / kPlaces);
  for (int id = 1; id <= 14; ++id) check_times(kind[id], kRows * kData, 1 / 14.0);
  CHECK((kind[0] == 0 && kind[15] == 0));
}

TEST_CASE("recall: the plateaus are ln(V / 2) and ln 14, the loss of the uniform answer") {
  const Context context = test_context();
  for (const Filler filler : {Filler::zeros, Filler::random}) {
    const Batch batch = mqar("4", 64, filler).sample(context, Rng{1}, 30, 32);
    CHECK(uniform_loss(batch, 64, 32, 63) == doctest::Approx(std::log(32.0)));
  }
  const Batch batch = selective("4").sample(context, Rng{1}, 30, 64);
  CHECK(uniform_loss(batch, 16, 1, 14) == doctest::Approx(std::log(14.0)));
  CHECK(std::log(14.0) == doctest::Approx(2.639).epsilon(0.001));
}

TEST_CASE("recall: batches are a pure function of rng") {
  const Context context = context_with(1), other = context_with(3);
  const Mqar pairs = mqar("4,40/4,40/9", 64, Filler::random);
  const SelectiveCopying data = selective("4,40/4,40/9");
  for (const Task* task : std::initializer_list<const Task*>{&pairs, &data}) {
    const Rng rng{8, 1};
    const Batch first = task->sample(context, rng, 5, 40);
    task->sample(context, Rng{8, 2}, 2, 17);
    const Batch again = task->sample(other, rng, 5, 40), fewer = task->sample(context, rng, 2, 40);
    CHECK(first.tokens.to_vector() == again.tokens.to_vector());
    CHECK(first.targets.to_vector() == again.targets.to_vector());
    CHECK(first.mask.to_vector() == again.mask.to_vector());
    for (const int b : {0, 1}) {
      CHECK(lines(fewer)[b].tokens == lines(first)[b].tokens);
      CHECK(lines(fewer)[b].targets == lines(first)[b].targets);
      CHECK(lines(fewer)[b].mask == lines(first)[b].mask);
    }
    std::set<std::vector<int32_t>> rows;
    for (const Rng& each : {rng, Rng{8, 2}, Rng{9, 1}})
      for (const Line& line : lines(task->sample(context, each, 50, 40))) rows.insert(line.tokens);
    CHECK(rows.size() == 150);
  }
}

TEST_CASE("recall: the number of keys goes with the length, by turns of rows") {
  const Context context = test_context();
  const Mqar task = mqar("4,64/8,64/4,256/31");
  using Numbers = std::vector<int64_t>;
  for (const int64_t length : {16, 63}) CHECK(task.keys_at(length) == Numbers{4});
  for (const int64_t length : {64, 255}) CHECK(task.keys_at(length) == Numbers{8, 4});
  for (const int64_t length : {256, 100'000}) CHECK(task.keys_at(length) == Numbers{31});
  const auto all = lines(task.sample(context, Rng{1}, 5, 64));
  for (size_t b = 0; b < all.size(); ++b) check_mqar(all[b], 64, b % 2 == 0 ? 8 : 4, true);
  // Rows that ask for less are padded behind.
  const auto rows = lines(selective("8/1,8/3").sample(context, Rng{1}, 2, 8));
  CHECK(rows[0].mask == std::vector<real>{0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0});
  CHECK((rows[0].tokens[9] == 0 && rows[0].tokens[10] == 0));
  CHECK(rows[1].mask == std::vector<real>{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1});
}

TEST_CASE("recall: a look-up is right everywhere; metrics count keys, by their number") {
  const Context context = test_context();
  const Mqar task = mqar("64/4,64/8", 64, Filler::random);
  const Batch batch = task.sample(context, Rng{4}, 4, 64);
  std::vector<int32_t> answers;
  for (const Line& line : lines(batch))
    for (size_t t = 0; t < line.tokens.size(); ++t) {
      const auto before = std::find(line.tokens.begin(), line.tokens.begin() + t, line.tokens[t]);
      answers.push_back(*(before + 1 < line.tokens.end() ? before + 1 : before));
    }
  const std::vector<Metric> metrics = metrics_of(task);
  const auto check = [&](const std::vector<double>& wanted) {
    const IntTensor given(context, {4, 64}, answers);
    REQUIRE(metrics.size() == wanted.size());
    for (size_t i = 0; i < metrics.size(); ++i) {
      INFO(metrics[i].name);
      CHECK(metrics[i].over({batch, given, {}, scores(given, batch)}).value() ==
            doctest::Approx(wanted[i]));
    }
  };
  CHECK(metrics[2].name == "recalled_4");
  CHECK(metrics[3].name == "recalled_8");
  check({1, 1, 1, 1});
  // One wrong key of four in the first row.
  const std::vector<real> mask = batch.mask.to_vector();
  answers[std::find(mask.begin(), mask.end(), 1) - mask.begin()] = 0;
  check({(0.75 + 3) / 4, 0.75, (0.75 + 1) / 2, 1});
  CHECK(metrics_of(mqar("4,64/8")).size() == 2);
}

TEST_CASE("recall: what does not fit is refused") {
  const Context context = test_context();
  const std::string nul(1, '\0');
  for (const std::string& text : std::initializer_list<std::string>{"",
                                                                    ",",
                                                                    "0",
                                                                    "-1",
                                                                    "+4",
                                                                    "4,",
                                                                    "x",
                                                                    "4.0",
                                                                    "64/",
                                                                    "/4",
                                                                    "64/4/2",
                                                                    "0/4",
                                                                    "-1/4",
                                                                    "64/0",
                                                                    "64x4",
                                                                    " 4",
                                                                    "4 ",
                                                                    "99999999999999999999",
                                                                    "64/4,,128/8",
                                                                    nul,
                                                                    "4" + nul}) {
    INFO(text);
    CHECK_THROWS_AS(keys_by_length(text), ValueError);
  }
  std::string many = "1";
  for (int i = 1; i < 64; ++i) many += ",1";
  CHECK(keys_by_length(many).at(1).size() == 64);
  CHECK_THROWS_AS(keys_by_length(many + ",1"), ValueError);

  check_refused<ValueError>(
      "4 times the keys must be at most the length: keys and length, got 4 "
      "and 15",
      [&] { mqar("4").sample(context, {}, 2, 15); });
  CHECK(mqar("4").keys_at(16).front() == 4);
  check_refused<ValueError>("at most as many as places",
                            [&] { selective("4").sample(context, {}, 2, 3); });
  CHECK(selective("4").sample(context, {}, 2, 4).tokens.shape() == Shape{2, 8});
  check_refused<ValueError>("for the length or a shorter one, got 63",
                            [&] { mqar("64/4").sample(context, {}, 2, 63); });
  for (const auto& [B, T] :
       std::initializer_list<std::pair<int64_t, int64_t>>{{0, 16}, {-1, 16}, {4, 0}, {1 << 27, 16}})
    CHECK_THROWS_AS(mqar("1").sample(context, {}, B, T), ValueError);
  // Below 2^31 tokens without what asks.
  CHECK_THROWS_AS(selective("16").sample(context, {}, int64_t{1} << 26, 30), ValueError);

  for (const int64_t V : {-1, 0, 3, 8, 9, (1 << 20) + 1}) CHECK_THROWS_AS(mqar("4", V), ValueError);
  CHECK(mqar("4", 10).vocabulary() == 10);
  for (const int64_t V : {-1, 0, 2, (1 << 20) + 1}) CHECK_THROWS_AS(selective("4", V), ValueError);
  for (const double power : {-0.1, 8.1, double(NAN), double(INFINITY)})
    CHECK_THROWS_AS(mqar("4", 64, Filler::zeros, power), ValueError);
}

}  // namespace fprnn::tests
