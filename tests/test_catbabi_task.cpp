// catbAbI as a task: passes of training, what an evaluation reads, and how answers count.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/babi/catbabi.h>
#include <fprnn/tasks/babi/simulator.h>
#include <fprnn/tasks/run/evaluate.h>

#include <map>
#include <set>

#include "context.h"
#include "named_model.h"
#include "refused.h"

namespace fprnn::tests {

using namespace babi;

namespace {

Stories simulated_stories(std::vector<int64_t> tasks = {1, 6, 19}, int64_t stories = 30) {
  return Stories{simulated({.tasks = std::move(tasks), .stories = stories})};
}

// The stories in rows of batches, each row cut at <eos>, with how often each was read.
class StoriesRead {
 public:
  void add(const Batch& batch) {
    const auto tokens = batch.tokens.to_vector();
    const int64_t T = batch.tokens.size(1);
    rows_.resize(batch.tokens.size(0));
    for (size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i] != kPad) rows_[i / T].push_back(tokens[i]);
  }
  std::multiset<std::vector<int32_t>> all() const {
    std::multiset<std::vector<int32_t>> all;
    for (const auto& row : rows_)
      for (auto at = row.begin(); at != row.end();) {
        REQUIRE(*at == kEos);
        const auto end = std::find(at + 1, row.end(), kEos);
        all.insert({at + 1, end});
        at = end;
      }
    return all;
  }

 private:
  std::vector<std::vector<int32_t>> rows_;
};

std::multiset<std::vector<int32_t>> words_of(const std::vector<Story>& stories) {
  std::multiset<std::vector<int32_t>> all;
  for (const Story& story : stories) all.insert(story.words);
  return all;
}

bool equal(const Batch& a, const Batch& b) {
  return a.tokens.to_vector() == b.tokens.to_vector() &&
         a.targets.to_vector() == b.targets.to_vector() &&
         a.mask.to_vector() == b.mask.to_vector() &&
         a.counted.to_vector() == b.counted.to_vector() && a.starts == b.starts;
}

}  // namespace

TEST_CASE(
    "catbabi: each pass of training reads every story of train once, in an order of its own") {
  const Context context = host_context();
  const Catbabi task(simulated_stories(), {});
  const auto at = [&](int64_t number) { return task.training_batch(context, 5, number, 3, 50); };
  std::vector<Batch> batches;
  std::vector<size_t> begins;
  while (begins.size() < 4) {
    batches.push_back(at(static_cast<int64_t>(batches.size())));
    if (batches.back().starts) begins.push_back(batches.size() - 1);
  }
  std::set<std::vector<int32_t>> firsts;
  for (size_t pass = 0; pass + 1 < begins.size(); ++pass) {
    StoriesRead read;
    for (size_t i = begins[pass]; i < begins[pass + 1]; ++i) read.add(batches[i]);
    CHECK(read.all() == words_of(task.stories().of(Part::train)));
    firsts.insert(batches[begins[pass]].tokens.to_vector());
  }
  CHECK(firsts.size() == 3);
  // A function of seed and number, in whatever order batches are asked for.
  const Catbabi other(simulated_stories(), {});
  for (const int64_t number : {int64_t(batches.size()) - 1, int64_t{0}, int64_t(begins[2]),
                               int64_t(begins[1]), int64_t(begins[1]) - 1, int64_t{1}})
    CHECK(equal(other.training_batch(context, 5, number, 3, 50), batches[number]));
  CHECK_FALSE(equal(other.training_batch(context, 6, 0, 3, 50), batches[0]));
  CHECK(other.training_batch(context, 5, 0, 2, 50).tokens.shape() == Shape{2, 50});
  CHECK(equal(other.training_batch(context, 5, 1, 3, 50), batches[1]));
}

TEST_CASE("catbabi: without carried state all windows start anew, and read the same") {
  const Context context = host_context();
  const Catbabi task(simulated_stories(), {}), cut(simulated_stories(), {.carry = false});
  CHECK(task.carries_state());
  CHECK_FALSE(cut.carries_state());
  for (int64_t i = 0; i < 5; ++i) {
    Batch window = cut.training_batch(context, 1, i, 2, 40);
    CHECK(window.starts);
    window.starts = i == 0;
    CHECK(equal(window, task.training_batch(context, 1, i, 2, 40)));
    CHECK(cut.reading(40)->batch(context, i).starts);
  }
  CHECK(task.reading(40)->carries);
  CHECK_FALSE(cut.reading(40)->carries);
}

TEST_CASE("catbabi: an evaluation reads every story of its part once") {
  const Context context = host_context();
  for (const Part part : {Part::valid, Part::test})
    for (const int64_t lanes : {1, 4, 128}) {
      const Catbabi task(simulated_stories(), {.examined = part, .examined_lanes = lanes});
      const Reading reading = *task.reading(60);
      CHECK(reading.sequences == lanes);
      StoriesRead read;
      for (int64_t i = 0; i < reading.batches; ++i) read.add(reading.batch(context, i));
      CHECK(read.all() == words_of(task.stories().of(part)));
    }
}

TEST_CASE("catbabi: with lm the loss reads every word; a batch without a question always does") {
  const Context context = host_context();
  const Catbabi answers(simulated_stories(), {}), words(simulated_stories(), {.loss = Loss::words});
  const Batch few = answers.training_batch(context, 0, 1, 4, 30),
              all = words.training_batch(context, 0, 1, 4, 30);
  CHECK(few.mask.to_vector() != all.mask.to_vector());
  CHECK(few.counted.to_vector() == all.counted.to_vector());
  CHECK(all.mask.to_vector() == std::vector<real>(120, 1));
  // Three tokens at a time, most windows ask nothing.
  int without = 0;
  for (int64_t i = 0; i < 20; ++i) {
    const Batch narrow = answers.training_batch(context, 0, i, 1, 3);
    const bool asks = max_abs(narrow.counted) > 0;
    without += !asks;
    if (!asks) CHECK(narrow.mask.to_vector() == std::vector<real>(3, 1));
  }
  CHECK(without > 5);
}

TEST_CASE("catbabi: answers are counted once a question, by task") {
  const Context context = test_context();
  const Catbabi task(simulated_stories(), {.examined_lanes = 5});
  const Reading reading = *task.reading(70);
  const std::vector<Metric> metrics = metrics_of(task);
  std::vector<std::string> names;
  for (const Metric& metric : metrics) names.push_back(metric.name);
  CHECK(names == std::vector<std::string>{"answers", "task_1", "task_6", "task_19", "nats"});
  const int32_t yes = [&] {
    const auto& words = task.stories().vocabulary();
    return static_cast<int32_t>(std::ranges::find(words, "yes") - words.begin());
  }();
  // Who is right but says yes to whatever task 6 asks.
  std::vector<Mean> means(4);
  for (int64_t i = 0; i < reading.batches; ++i) {
    const Batch batch = reading.batch(context, i);
    std::vector<int32_t> answers = batch.targets.to_vector();
    const std::vector<real> counted = batch.counted.to_vector();
    for (size_t t = 0; t < answers.size(); ++t)
      if (counted[t] == 6) answers[t] = yes;
    const IntTensor given(context, batch.tokens.shape(), answers);
    const Tensor logits(context, {1});
    const Answered answered{batch, given, logits, scores(given, batch)};
    for (size_t m = 0; m < means.size(); ++m) means[m].add(metrics[m].over(answered));
  }
  CHECK(means[0].weight == 33);  // 3 stories of 5, 5 and 1 questions
  CHECK(means[1].weight == 15);
  CHECK(means[2].weight == 15);
  CHECK(means[3].weight == 3);
  CHECK(means[1].value() == 1);
  CHECK(means[2].value() < 1);
  CHECK(means[3].value() == 1);
  CHECK(means[0].sum == doctest::Approx(18 + means[2].sum));
  CHECK(metrics_of(Catbabi(simulated_stories({6}), {})).size() == 2);
}

TEST_CASE("catbabi: an evaluation with carried state does not depend on its windows") {
  const Context context = test_context();
  const Catbabi task(simulated_stories(), {.examined_lanes = 3}),
      cut(simulated_stories(), {.carry = false, .examined_lanes = 3});
  Rng rng{4, 1};
  const auto model = named_model(key_texts("model=mamba d_model=8 d_state=4 layers=1"),
                                 task.vocabulary(), {context, rng});
  const auto at = [&](const Catbabi& of, int64_t length) {
    return evaluate(*model, of, context, 0, length, 1);
  };
  const LengthResult whole = at(task, 1000), short_ones = at(task, 16);
  CHECK(short_ones.metric("answers") == whole.metric("answers"));
  CHECK(short_ones.metric("nats") == doctest::Approx(whole.metric("nats")).epsilon(1e-5));
  CHECK(std::abs(at(cut, 16).metric("nats") - whole.metric("nats")) > 1e-6);
}

TEST_CASE("catbabi: the validation loss is that of the stories of valid, whatever is examined") {
  const Context context = test_context();
  const Catbabi task(simulated_stories(), {.examined_lanes = 3}),
      valid(simulated_stories(), {.examined = Part::valid, .examined_lanes = 128});
  Rng rng{4, 1};
  const auto model = named_model(key_texts("model=mamba d_model=8 d_state=4 layers=1"),
                                 task.vocabulary(), {context, rng});
  const double loss = validation_loss(*model, task, context, 0, 20, 1);
  CHECK(loss == evaluate(*model, valid, context, 0, 20, 1).metric("nats"));
  CHECK(loss != evaluate(*model, task, context, 0, 20, 1).metric("nats"));
}

TEST_CASE("catbabi: its data are the stories that it trains on and all words") {
  const auto data = [](const std::string& train, const std::string& test) {
    const std::vector<File> files = {{1, Part::train, "", train}, {1, Part::test, "", test}};
    return Catbabi(Stories{files}, {}).data();
  };
  const std::string two = "1 Is Mary in?\tno\n1 Is John in?\tno\n", one = "1 Is Mary in?\tno\n";
  const std::string was = data(two, one);
  CHECK(was.starts_with("1 stories of train, 8 tokens, fingerprint "));
  CHECK(data(two, one) == was);
  CHECK(data(two, one + one) == was);
  CHECK(data("1 Is Mary in?\tin\n1 Is John in?\tno\n", one) != was);
  CHECK(data(two, "1 Is Mary in?\tyes\n") != was);
}

TEST_CASE("catbabi: a part without stories, or no lanes, is refused") {
  const File train = {1, Part::train, "qa1_train.txt", "1 Is Mary in?\tno\n1 Is John in?\tno\n"};
  const std::vector<File> files = {train};
  check_refused<FormatError>("stories of the part, got 'test'",
                             [&] { Catbabi(Stories{files}, {}); });
  CHECK(Catbabi(Stories{files}, {.examined = Part::valid}).vocabulary() == 8);
  const auto with = [](const std::string& train, const std::string& test) {
    const std::vector<File> both = {{1, Part::train, "", train}, {1, Part::test, "", test}};
    return Stories(both);
  };
  const std::string asks = "1 Is Mary in?\tno\n1 Is John in?\tno\n1 Is Al in?\tno\n",
                    tells = "1 Mary is in.\n1 John is in.\n1 Al is in.\n";
  check_refused<FormatError>("questions in the part, got 'test'",
                             [&] { Catbabi(with(asks, tells), {.loss = Loss::words}); });
  check_refused<FormatError>("questions in the part, got 'train'",
                             [&] { Catbabi(with(tells, asks), {}); });
  CHECK(Catbabi(with(tells, asks), {.loss = Loss::words}).validation(5)->batches > 0);
  check_refused<FormatError>("questions in the part, got 'valid'", [&] {
    Catbabi(with("1 Is Mary in?\tno\n1 John is in.\n", asks), {}).validation(5);
  });
  CHECK_THROWS_AS(Catbabi(simulated_stories(), {.examined_lanes = 0}), ValueError);
  const Context context = host_context();
  const Catbabi task(simulated_stories(), {});
  CHECK_THROWS_AS(task.training_batch(context, 0, 0, 0, 10), ValueError);
  CHECK_THROWS_AS(task.training_batch(context, 0, 0, 2, 0), ValueError);
  CHECK_THROWS_AS(task.reading(0), ValueError);
}

}  // namespace fprnn::tests
