// Expressions modulo 5 and small automata: that a row is of its form and has the right answer.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/run/train.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "named_model.h"
#include "questions.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

// A calculator of its own, modulo 5:
//   sum = product {(+|-) product},  product = factor {* factor},  factor = - factor | ( sum ) | digit
class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}
  int value() {  // -1: the text is no expression
    const int value = sum();
    return good_ && at_ == text_.size() ? value : -1;
  }
  int deepest() const { return deepest_; }

 private:
  char next() const { return at_ < text_.size() ? text_[at_] : '$'; }
  bool take(char wanted) {
    if (next() != wanted) return false;
    ++at_;
    return true;
  }
  int sum() {
    int value = product();
    for (;;) {
      if (take('+'))
        value = (value + product()) % 5;
      else if (take('-'))
        value = (value + 5 - product()) % 5;
      else
        return value;
    }
  }
  int product() {
    int value = factor();
    while (take('*')) value = value * factor() % 5;
    return value;
  }
  int factor() {
    if (take('-')) return (5 - factor()) % 5;
    if (take('(')) {
      deepest_ = std::max(deepest_, ++depth_);
      const int value = sum();
      good_ = good_ && take(')');
      --depth_;
      return value;
    }
    for (int digit = 0; digit < 5; ++digit)
      if (take(static_cast<char>('0' + digit))) return digit;
    good_ = false;
    return 0;
  }

  const std::string text_;
  size_t at_ = 0;
  int depth_ = 0, deepest_ = 0;
  bool good_ = true;
};

// The expression before `=`, which a parser knows not.
std::string expression(const Question& q) {
  return q.text.substr(0, q.text.size() - (q.text.ends_with('=') ? 1 : 0));
}

int answer(const std::string& variant, const Question& q) {
  if (variant == "even-pairs") return q.text.front() == q.text.back() ? 0 : 1;
  int twos = 0, place = 0;
  for (const char c : q.text) {
    twos += c == '2';
    place += c == '+' ? 1 : c == '-' ? -1 : 0;
  }
  if (variant == "parity") return twos % 2;
  if (variant == "cycle") return (place % 5 + 5) % 5;
  return Parser(expression(q)).value();
}

int64_t wrong(const std::string& variant, const std::vector<Question>& all) {
  return std::ranges::count_if(all,
                               [&](const Question& q) { return answer(variant, q) != q.answer; });
}

double share_of_0(const std::vector<Question>& all) {
  double zeros = 0;
  for (const Question& q : all) zeros += q.answer == 0;
  return zeros / static_cast<double>(all.size());
}

}  // namespace

TEST_CASE("arithmetic: an evaluator of its own agrees on 100,000 expressions of each kind") {
  const Context context = host_context();
  for (const std::string variant : {"brackets", "plain"})
    for (const bool times : {true, false}) {
      INFO(variant, times);
      std::vector<int> signs(128);
      const std::vector<Question> all =
          questions(variant, task_of(variant, times).sample(context, Rng{1, 2}, 100'000, 40));
      CHECK(wrong(variant, all) == 0);
      for (const Question& q : all)
        for (const char c : q.text) ++signs[c];
      CHECK((signs['*'] > 0) == times);
      CHECK(signs['+'] > 100'000);
      if (times) CHECK(std::abs(signs['*'] - signs['+']) < signs['+'] / 50);
    }
}

TEST_CASE("arithmetic: automata answer as they are defined") {
  const Context context = host_context();
  for (const std::string variant : {"parity", "even-pairs", "cycle"}) {
    INFO(variant);
    CHECK(wrong(variant,
                questions(variant, task_of(variant).sample(context, Rng{1, 2}, 20'000, 40))) == 0);
  }
}

TEST_CASE("arithmetic: rows as the documentation shows them") {
  CHECK(Parser("(-2*(3+4))").value() == 1);
  CHECK(Parser("3+4*2-1").value() == 0);
  for (const char* text : {"", "3+", "(3", "3)", "5", "3 3", "-"})
    CHECK(Parser(text).value() == -1);
  CHECK(answer("parity", {.text = "1221"}) == 0);
  CHECK(answer("even-pairs", {.text = "1222"}) == 1);
  CHECK(answer("cycle", {.text = "+.--"}) == 4);
}

TEST_CASE("arithmetic: brackets balance, and nest as deeply as they should") {
  const Context context = host_context();
  const std::map<int64_t, double> depths{{37, 5}, {100, 8}, {253, 11}};
  for (const auto& entry : depths) {
    double sum = 0;
    for (const Question& q : questions(
             "brackets", task_of("brackets").examination(context, Rng{5}, 2000, entry.first + 3))) {
      const std::string text = expression(q);
      REQUIRE(static_cast<int64_t>(text.size()) == entry.first);
      int depth = 0, least = 0;
      for (const char c : text) least = std::min(least, depth += c == '(' ? 1 : c == ')' ? -1 : 0);
      REQUIRE((depth == 0 && least == 0));
      Parser parser(text);
      parser.value();
      sum += parser.deepest();
    }
    CHECK(std::abs(sum / 2000 - entry.second) < 0.15);
  }
}

TEST_CASE("arithmetic: training's lengths are uniform, from the shortest row to the longest") {
  const Context context = host_context();
  for (const std::string& variant : kVariants) {
    INFO(variant);
    const Batch batch = task_of(variant).sample(context, Rng{2}, 38'000, 40);
    std::map<size_t, int> count;
    for (const Question& q : questions(variant, batch)) ++count[q.length];
    const bool plain = variant == "plain", brackets = variant == "brackets";
    CHECK(batch.tokens.size(1) == (plain ? 39 : 40));
    CHECK(count.begin()->first == (brackets ? 5 : 3));
    CHECK(count.rbegin()->first == (plain ? 39 : 40));
    CHECK(count.size() == (plain ? 19 : brackets ? 36 : 38));
    for (const auto& entry : count) {
      const int expected = plain ? 2000 : brackets && entry.first == 5 ? 3000 : 1000;
      CHECK(std::abs(entry.second - expected) < 6 * std::sqrt(expected));
      if (plain) CHECK(entry.first % 2 == 1);
    }
  }
}

TEST_CASE("arithmetic: an examination is of one length, or of those from another one") {
  const Context context = host_context();
  for (const std::string& variant : kVariants)
    for (const int64_t length : {3, 4, 5, 40, 41, 64}) {
      INFO(variant, length);
      const int64_t wanted = variant == "brackets" ? std::max<int64_t>(length, 5)
                             : variant == "plain"  ? (length + 1) / 2 * 2 - 1
                                                   : length;
      const Batch batch = task_of(variant).examination(context, Rng{3}, 20, length);
      CHECK(batch.tokens.size(1) == wanted);
      for (const Question& q : questions(variant, batch)) {
        CHECK(static_cast<int64_t>(q.length) == wanted);
        CHECK(answer(variant, q) == q.answer);
      }
    }
  for (const std::string variant : {"parity", "plain"}) {
    size_t least = 1000, most = 0;
    for (const Question& q :
         questions(variant, task_of(variant, true, 40).examination(context, Rng{3}, 4000, 256))) {
      least = std::min(least, q.length);
      most = std::max(most, q.length);
    }
    CHECK(least == (variant == "plain" ? 39 : 40));
    CHECK(most == (variant == "plain" ? 255 : 256));
  }
  const Batch below = task_of("parity", true, 40).examination(context, Rng{3}, 20, 16);
  for (const Question& q : questions("parity", below)) CHECK(q.length == 16);
}

TEST_CASE("arithmetic: answers are distributed as calculated") {
  const Context context = host_context();
  const auto trained = [&](const std::string& variant, bool times = true) {
    return questions(variant, task_of(variant, times).sample(context, Rng{4}, 60'000, 40));
  };
  // Exact shares by a convolution over lengths; the deviation of 60,000 rows is .002.
  CHECK(std::abs(share_of_0(trained("brackets")) - .2666) < 0.008);
  CHECK(std::abs(share_of_0(trained("brackets", false)) - .2) < 0.008);
  CHECK(std::abs(share_of_0(trained("plain")) - .2063) < 0.008);
  CHECK(std::abs(share_of_0(trained("parity")) - .5) < 0.008);
  CHECK(std::abs(share_of_0(trained("even-pairs")) - .5) < 0.008);
  CHECK(std::abs(share_of_0(trained("cycle")) - .2070) < 0.008);
  const auto tested = questions(
      "brackets", task_of("brackets", true, 40).examination(context, Rng{4}, 30'000, 256));
  CHECK(std::abs(share_of_0(tested) - .3052) < 0.008);
}

TEST_CASE("arithmetic: batches are a pure function of rng, and rows of their number") {
  const Context context = context_with(1), other = context_with(3);
  for (const std::string& variant : kVariants) {
    INFO(variant);
    const Arithmetic task = task_of(variant);
    const Batch first = task.sample(context, Rng{8, 1}, 7, 20),
                again = task.sample(other, Rng{8, 1}, 7, 20),
                fewer = task.sample(context, Rng{8, 1}, 3, 20);
    const auto same = [](const auto& x, const auto& y, int64_t rows) {
      const auto a = x.to_vector(), b = y.to_vector();
      const int64_t count = rows * x.size(1);
      return std::equal(a.begin(), a.begin() + count, b.begin(), b.begin() + count);
    };
    const auto check = [&](const Batch& batch, int64_t rows) {
      CHECK(same(first.tokens, batch.tokens, rows));
      CHECK(same(first.targets, batch.targets, rows));
      CHECK(same(first.mask, batch.mask, rows));
    };
    check(again, 7);
    check(fewer, 3);
    for (const Rng& rng : {Rng{8, 2}, Rng{9, 1}})
      CHECK(task.sample(context, rng, 7, 20).tokens.to_vector() != first.tokens.to_vector());
  }
}

TEST_CASE("arithmetic: the input at the answer's place changes no logit before it") {
  const Context context = test_context();
  for (const std::string& variant : kVariants)
    for (const std::string model : {"mamba", "lstm", "fp-mamba"}) {
      INFO(variant, model);
      const Arithmetic task = task_of(variant);
      KeyTexts values{{"model", model}, {"d_model", "8"}};
      // The parallel solver iterates as long as any token needs it.
      if (model == "fp-mamba") values.emplace_back("solver", "sequential");
      Rng weights = initial_stream(1);
      const auto net = named_model(values, task.vocabulary(), {context, weights});
      const auto logits = [&](const std::vector<int32_t>& tokens, const Shape& shape) {
        NoGrad tape(context);
        return net->forward(tape, IntTensor(context, shape, tokens)).value().to_vector();
      };
      const Batch batch = task.examination(context, Rng{6}, 1, 12);
      std::vector<int32_t> tokens = batch.tokens.to_vector();
      const std::vector<real> before = logits(tokens, batch.tokens.shape()),
                              mask = batch.mask.to_vector();
      const size_t place = std::find(mask.begin(), mask.end(), real(1)) - mask.begin() + 1;
      const auto kept = static_cast<int64_t>(place) * task.vocabulary();
      const int32_t pad = tokens[place];
      for (int32_t other = 0; other < task.vocabulary(); ++other) {
        if (other == pad) continue;
        tokens[place] = other;
        const std::vector<real> after = logits(tokens, batch.tokens.shape());
        CHECK(std::equal(after.begin(), after.begin() + kept, before.begin()));
        CHECK(after != before);
      }
    }
}

TEST_CASE("arithmetic: what there is not is refused") {
  const Context context = host_context();
  check_refused<ValueError>("even_pairs", [] { task_of("even_pairs"); });
  check_refused<ValueError>("variants are brackets", [] { task_of(""); });
  for (const int64_t from : {-1, 1, 2})
    check_refused<ValueError>("got " + std::to_string(from),
                              [&] { task_of("parity", true, from); });
  for (const std::string& variant : kVariants) {
    const Arithmetic task = task_of(variant);
    for (const int64_t length : {1, 2})
      check_refused<ValueError>("at least 3", [&] { task.sample(context, {}, 2, length); });
    check_refused<ValueError>("at least 3", [&] { task.examination(context, {}, 2, 2); });
    for (const auto& [rows, length] : std::initializer_list<std::pair<int64_t, int64_t>>{
             {0, 5}, {5, 0}, {-1, 5}, {1 << 16, 1 << 15}, {1, int64_t{1} << 62}})
      CHECK_THROWS_AS(task.sample(context, {}, rows, length), ValueError);
  }
}

}  // namespace fprnn::tests
