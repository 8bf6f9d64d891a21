// Which elements a word problem reads, how they are spaced, and what training never shows.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "context.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

std::vector<int> elements(const std::string& group, const std::string& alphabet) {
  return alphabet_named(alphabet, group_named(group)).elements;
}
HoldOut hold_out(const std::string& text, const std::string& group,
                 const std::string& alphabet = "all") {
  return {text, group_named(group), elements(group, alphabet)};
}
WordProblem problem(const std::string& group, const std::string& alphabet,
                    const std::string& hold_out = "none") {
  return WordProblem(group_named(group), {.alphabet = alphabet, .hold_out = hold_out});
}

// That an event of probability p came `times` in n draws: within 4.5 standard deviations.
void check_times(double times, double n, double p) {
  INFO(times << " of " << n << ", expected " << n * p);
  CHECK(std::abs(times - n * p) <= 4.5 * std::sqrt(n * p * (1 - p)));
}

// Visits the elements of a batch without blanks: where they are read, which, what comes out, t from 1.
using Visit = std::function<void(const WordPlace& place, int x, int product, int64_t t)>;
void for_each_element(const Batch& batch, const Visit& visit) {
  const auto tokens = batch.tokens.to_vector(), targets = batch.targets.to_vector();
  const int64_t B = batch.tokens.size(0), T = batch.tokens.size(1);
  for (int64_t b = 0; b < B; ++b) {
    WordPlace place;  // the identity is 0
    for (int64_t t = 1; t < T; ++t) {
      const int x = tokens[b * T + t], product = targets[b * T + t];
      visit(place, x, product, t);
      place = {x, product};
    }
  }
}

// Answers by a rule to the elements in the order in which they are asked for; 0 elsewhere.
Mean judged(const WordProblem& task, const std::string& metric, const Batch& batch,
            const std::function<bool(const WordPlace& place, int x, int64_t t)>& right) {
  std::vector<int32_t> answers = batch.targets.to_vector();
  const int64_t T = batch.tokens.size(1);
  size_t at = 0;
  for_each_element(batch, [&](const WordPlace& place, int x, int, int64_t t) {
    if (at % T == 0) ++at;  // BOS
    if (!right(place, x, t)) answers[at] = -1;
    ++at;
  });
  const IntTensor all(batch.tokens.context(), batch.tokens.shape(), answers);
  const Answered answered{batch, all, {}, scores(all, batch)};
  for (const Metric& each : task.metrics())
    if (each.name == metric) return each.over(answered);
  FAIL("no metric " << metric);
  return {};
}

}  // namespace

TEST_CASE("alphabets: the elements of each") {
  const Group a5 = group_named("A5"), s5 = group_named("S5");
  using Permutation = std::vector<int>;
  using Permutations = std::set<Permutation>;
  const auto permutations = [](const Group& group, const std::string& alphabet) {
    Permutations all;
    for (const int a : alphabet_named(alphabet, group).elements) all.insert(group.permutations[a]);
    return all;
  };
  const Permutation cycle = {1, 2, 3, 4, 0};
  CHECK(permutations(a5, "generators") == Permutations{cycle, {1, 0, 3, 2, 4}});
  CHECK(permutations(s5, "generators") == Permutations{cycle, {1, 0, 2, 3, 4}});
  CHECK(elements("Z7", "all") == std::vector<int>{0, 1, 2, 3, 4, 5, 6});
  const Alphabet spaced = alphabet_named("spaced:4", s5);
  CHECK(spaced.elements == s5.elements());
  CHECK(spaced.spacing == 4);
  CHECK(alphabet_named("swaps", s5).spacing == 1);

  // The identity and 10 exchanges; with 20 cycles of three 31. Of A5 the latter alone.
  const auto count = [&](const Group& group, const std::string& alphabet, int most) {
    const std::vector<int> all = alphabet_named(alphabet, group).elements;
    for (const int a : all) {
      int moved = 0;
      for (int i = 0; i < 5; ++i) moved += group.permutations[a][i] != i;
      CHECK(moved <= most);
    }
    CHECK(std::ranges::is_sorted(all));
    CHECK(all.front() == group.identity);
    return all.size();
  };
  CHECK(count(s5, "swaps", 2) == 11);
  CHECK(count(s5, "move3", 3) == 31);
  CHECK(count(a5, "move3", 3) == 21);
  CHECK(elements("S3", "swaps").size() == 4);
}

TEST_CASE("alphabets: generators and others, each a part of the next") {
  for (const char* name : {"A5", "S5"}) {
    std::vector<int> before = elements(name, "generators");
    CHECK(before == elements(name, "generators:2"));
    for (const int n : {4, 6, 8, 12, 32}) {
      const std::vector<int> more = elements(name, "generators:" + std::to_string(n));
      CHECK(std::set(more.begin(), more.end()).size() == size_t(n));
      CHECK(std::ranges::includes(more, before));
      CHECK(more.front() != 0);
      before = more;
    }
  }
  CHECK(elements("A5", "generators:59").size() == 59);
}

TEST_CASE("alphabets: others are refused, and what a group does not have") {
  const auto refused = [](const char* group, const char* alphabet, const char* words) {
    INFO(alphabet);
    check_refused<ValueError>(words, [&] { elements(group, alphabet); });
  };
  for (const char* name : {"", "All", "all:2", "swaps:2", "spaced", "spaced:", "spaced:1",
                           "spaced:17", "spaced:-2", "spaced:2.5", "generator", "moves3"})
    refused("S5", name, "alphabets are all");
  for (const char* group : {"A4", "S4", "Z60", "A4xZ5", "A5xZ2"})
    for (const char* name : {"generators", "generators:4"}) refused(group, name, "A5 and S5");
  for (const char* name : {"generators:1", "generators:60", "generators:x", "generators:"})
    refused("A5", name, "2 to all elements");
  for (const char* group : {"A5", "Z2", "S3xS3", "S1"}) refused(group, "swaps", "so few things");
  for (const char* group : {"Z2", "A4xZ5"}) refused(group, "move3", "so few things");
}

TEST_CASE("alphabets: A5's generators reach 19, 48 and 60 products after 5, 8 and 16") {
  const Batch batch = problem("A5", "generators").sample(test_context(), Rng{2, 3}, 4000, 16);
  std::vector<std::set<int>> read(17), reached(17);
  for_each_element(batch, [&](const WordPlace&, int x, int product, int64_t t) {
    read[t].insert(x);
    reached[t].insert(product);
  });
  CHECK(read[16].size() == 2);
  CHECK(reached[1].size() == 2);
  CHECK(reached[5].size() == 19);
  CHECK(reached[8].size() == 48);
  CHECK(reached[16].size() == 60);
}

TEST_CASE("alphabets: with all a product is uniform and independent of the one before") {
  constexpr int64_t kRows = 36'000;
  const Batch batch = problem("S3", "all").sample(test_context(), Rng{4, 5}, kRows, 3);
  std::vector<int64_t> pairs(36);
  for_each_element(batch, [&](const WordPlace& place, int, int product, int64_t t) {
    if (t == 3) ++pairs[place.state * 6 + product];
  });
  for (const int64_t times : pairs) check_times(double(times), kRows, 1.0 / 36);
}

TEST_CASE("alphabets: with all every element takes one word of its own, as ever") {
  const Rng rng{6, 7};
  const Batch batch = problem("A5", "all").sample(test_context(), rng, 9, 11);
  int64_t word = 0, other = 0;
  for_each_element(batch, [&](const WordPlace&, int x, int, int64_t) {
    other += x != int(rng.below(word++, 60));
  });
  CHECK((word == 99 && other == 0));
}

TEST_CASE("alphabets: spaced elements have blanks after them, and are answered at the last") {
  const Context context = test_context();
  const WordProblem task = problem("S3", "spaced:3");
  CHECK(task.vocabulary() == 8);
  CHECK(problem("S3", "swaps").vocabulary() == 7);
  const Batch batch = task.sample(context, Rng{1, 2}, 1, 2);
  const Batch dense = problem("S3", "all").sample(context, Rng{1, 2}, 1, 2);
  const auto x = dense.tokens.to_vector(), a = dense.targets.to_vector();
  CHECK(batch.tokens.to_vector() == std::vector<int32_t>{6, x[1], 7, 7, x[2], 7, 7});
  CHECK(batch.targets.to_vector() == std::vector<int32_t>{6, 0, 0, a[1], 0, 0, a[2]});
  CHECK(batch.mask.to_vector() == std::vector<real>{1, 0, 0, 1, 0, 0, 1});
  CHECK(batch.counted.to_vector() == std::vector<real>{0, 0, 0, 1, 0, 0, 1});
  CHECK_THROWS_AS(task.sample(context, {}, 1 << 15, 1 << 15), ValueError);
}

TEST_CASE("word problem: who looks up the table is right by every metric") {
  const Context context = test_context();
  const Group group = group_named("S5");
  for (const char* alphabet : {"all", "generators:4", "swaps", "move3", "spaced:4"}) {
    INFO(alphabet);
    const WordProblem task(group, {.alphabet = alphabet, .hold_out = "cells:0.3"});
    const Batch batch = task.examination(context, Rng{7, 8}, 20, 30);
    std::vector<int32_t> answers;
    int product = group.identity;
    for (const int32_t token : batch.tokens.to_vector()) {
      if (token == group.order) product = group.identity;
      if (token < group.order) product = group.table[product * group.order + token];
      answers.push_back(product);
    }
    const IntTensor all(context, batch.tokens.shape(), answers);
    const Answered answered{batch, all, {}, scores(all, batch)};
    CHECK(answered.scores.front().counted == 30);
    CHECK(task.metrics().size() == 6);
    for (const Metric& metric : task.metrics()) {
      INFO(metric.name);
      CHECK(metric.over(answered).weight > 0);
      CHECK(metric.over(answered).value() == 1);
    }
  }
}

TEST_CASE("held out: so many as asked for, of every row but one, the same in every run") {
  struct Case {
    const char *text, *group, *alphabet;
    int64_t rows, wide, held;
  };
  for (const Case& c :
       {Case{"pairs:0.1", "A5", "all", 60, 60, 360},
        Case{"cells:0.25", "A5", "generators", 60, 2, 30},
        Case{"cells:0.5", "A5", "generators", 60, 2, 60},
        Case{"pairs:0.2", "S5", "swaps", 11, 11, 24}, Case{"cells:0.9", "S3", "swaps", 6, 4, 0},
        Case{"cells:0.75", "S3", "swaps", 6, 4, 18}}) {
    INFO(c.text);
    const Group group = group_named(c.group);
    const std::vector<int> read = elements(c.group, c.alphabet);
    if (c.held == 0) {
      CHECK_THROWS_AS(HoldOut(c.text, group, read), ValueError);
      continue;
    }
    const HoldOut held(c.text, group, read), again(c.text, group, read);
    const bool pairs = c.text[0] == 'p';
    int64_t count = 0;
    for (const int row : pairs ? read : group.elements()) {
      const WordPlace place{.last = pairs ? row : 0, .state = pairs ? 0 : row};
      CHECK(!held.choices(place).empty());
      CHECK(held.choices(place) == again.choices(place));
      for (const int x : read) count += held.holds(place, x);
    }
    CHECK(count == c.held);
    if (pairs) CHECK(held.choices({.last = -1, .state = 0}) == read);
  }
}

TEST_CASE(
    "held out: never in training, where the rest is uniform, and as often as said elsewhere") {
  constexpr int64_t kRows = 6000, kLength = 7;
  const Context context = test_context();
  for (const char* group : {"S3", "A5"})
    for (const std::string text : {"pairs:0.25", "cells:0.25"}) {
      const std::string alphabet = group == std::string("A5") ? "generators:4" : "all";
      INFO(group << " " << text);
      const HoldOut held = hold_out(text, group, alphabet);
      const WordProblem task = problem(group, alphabet, text);
      int64_t trained = 0;
      double ordinary = 0, first = 0;  // of all that could be read, at their places, the first
      for_each_element(task.sample(context, Rng{8, 9}, kRows, kLength),
                       [&](const WordPlace& place, int x, int, int64_t) {
                         trained += held.holds(place, x);
                         const std::vector<int>& choices = held.choices(place);
                         ordinary += 1.0 / double(choices.size());
                         first += x == choices.front();
                       });
      CHECK(trained == 0);
      CHECK(std::abs(first - ordinary) < 4.5 * std::sqrt(kRows * kLength * 0.25));
      std::vector<int64_t> met(kLength + 1);
      for_each_element(
          task.examination(context, Rng{8, 9}, kRows, kLength),
          [&](const WordPlace& place, int x, int, int64_t t) { met[t] += held.holds(place, x); });
      for (int64_t t = 1; t <= kLength; ++t) check_times(double(met[t]), kRows, held.share_at(t));
      CHECK(met[kLength] > 0);
    }
  // Nor in rows of many lengths, up to where each ends.
  const WordProblem rows(group_named("S3"), {.hold_out = "cells:0.25", .shortest = 2});
  const HoldOut held = hold_out("cells:0.25", "S3");
  int64_t read = 0, trained = 0;
  for_each_element(rows.sample(context, Rng{8, 9}, kRows, kLength),
                   [&](const WordPlace& place, int x, int, int64_t) {
                     if (x == 6) return;  // BOS
                     ++read;
                     trained += held.holds(place, x);
                   });
  CHECK(trained == 0);
  CHECK(std::abs(double(read) - kRows * 4.5) < 4.5 * std::sqrt(kRows * 35 / 12.0));
  const HoldOut pairs = hold_out("pairs:0.25", "S3"), cells = hold_out("cells:0.25", "S3");
  CHECK(pairs.share_at(1) == 0);
  for (const int64_t t : {2, 3, 1000}) {
    CHECK(pairs.share_at(t) == doctest::Approx(0.25));
    CHECK(cells.share_at(t) == doctest::Approx(0.25));
  }
}

TEST_CASE("held out: its metric, beside that of others which lie as late") {
  const Context context = test_context();
  const WordProblem task = problem("S3", "all", "pairs:0.25");
  const HoldOut held = hold_out("pairs:0.25", "S3");
  const Batch batch = task.examination(context, Rng{3, 1}, 500, 6);
  const auto rule = [&](bool wanted) {
    return
        [&held, wanted](const WordPlace& p, int x, int64_t) { return held.holds(p, x) == wanted; };
  };
  CHECK(judged(task, "held_out", batch, rule(true)).value() == 1);
  CHECK(judged(task, "not_held_out", batch, rule(true)).value() == 0);
  CHECK(judged(task, "held_out", batch, rule(false)).value() == 0);
  CHECK(judged(task, "not_held_out", batch, rule(false)).value() == 1);

  // Who knows the beginning alone does as well at both; the first element is never held out.
  const auto early = [](int64_t last) {
    return [last](const WordPlace&, int, int64_t t) { return t <= last; };
  };
  CHECK(judged(task, "not_held_out", batch, early(1)).value() == 0);
  const WordProblem cells = problem("A5", "generators:4", "cells:0.25");
  const Batch longer = cells.examination(context, Rng{3, 2}, 4000, 4);
  const Mean out = judged(cells, "held_out", longer, early(2));
  const Mean in = judged(cells, "not_held_out", longer, early(2));
  CHECK(out.weight > 1000);
  CHECK(out.value() == doctest::Approx(in.value()).epsilon(0.05));
}

TEST_CASE("held out: other texts and shares are refused") {
  for (const char* text : {"", "some", "pairs", "pairs:", "pairs:x", "pairs:0", "pairs:1",
                           "pairs:-0.1", "cells:1.5", "cells:nan", "pairs:0.1,", "Pairs:0.1"})
    check_refused<ValueError>("must be none, pairs:P or cells:P", [&] { hold_out(text, "S3"); });
  for (const char* text : {"pairs:0.01", "pairs:0.9", "cells:0.9"})
    check_refused<ValueError>("leave each row one", [&] { hold_out(text, "S3"); });
}

}  // namespace fprnn::tests
