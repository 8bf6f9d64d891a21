// Copying: what its generator draws, and both ways in which its answers are judged.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/decode.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/string_copying.h>

#include <algorithm>
#include <map>
#include <set>

#include "named_model.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

using Ids = std::vector<int32_t>;

// The rows of a batch.
struct Read {
  int64_t B, T;
  Ids tokens, targets;
  std::vector<real> mask, counted;

  explicit Read(const Batch& batch)
      : B(batch.tokens.size(0)),
        T(batch.tokens.size(1)),
        tokens(batch.tokens.to_vector()),
        targets(batch.targets.to_vector()),
        mask(batch.mask.to_vector()),
        counted(batch.counted.to_vector()) {}
  Ids row(int64_t b) const { return {tokens.begin() + b * T, tokens.begin() + (b + 1) * T}; }
};

Ids part(const Ids& x, int64_t begin, int64_t size) {
  return {x.begin() + begin, x.begin() + begin + size};
}
// How often g is in s.
int64_t occurrences(const Ids& s, const Ids& g) {
  int64_t count = 0;
  for (auto at = s.begin(); at + std::ssize(g) <= s.end(); ++at)
    count += std::equal(g.begin(), g.end(), at);
  return count;
}

// Expected of a packed row, by the length that is left: whole examples, supervised and cut tokens.
struct Expected {
  double whole = 0, supervised = 0, cut = 0;
};
Expected expected(int64_t context, int64_t shortest, int64_t longest) {
  std::vector<Expected> of(context + 1);
  const auto share = 1.0 / static_cast<double>(longest - shortest + 1);
  for (int64_t left = 1; left <= context; ++left)
    for (int64_t s = shortest; s <= longest; ++s) {
      const int64_t rest = left - (2 * s + 3);
      const Expected after =
          rest < 0 ? Expected{-1, -double(s + 1), double(left)} : of[static_cast<size_t>(rest)];
      of[left].whole += share * (after.whole + 1);
      of[left].supervised += share * (after.supervised + double(s + 1));
      of[left].cut += share * after.cut;
    }
  return of[context];
}

// Answers as one gives who repeats the token that stands `distance` before the target.
double strings_of_distance(const Batch& batch, int64_t distance) {
  const Read read(batch);
  Ids answers(read.tokens.size(), -1);
  for (int64_t b = 0; b < read.B; ++b)
    for (int64_t t = distance - 1; t < read.T; ++t)
      answers[b * read.T + t] = read.tokens[b * read.T + t + 1 - distance];
  const IntTensor given(batch.targets.context(), batch.targets.shape(), answers);
  const Tensor logits;
  return whole_sequences({batch, given, logits, scores(given, batch)}).value();
}

std::unique_ptr<SequenceModel> trained(const Context& context, const Task& task,
                                       const std::string& name) {
  Rng rng = initial_stream(3);
  auto model = named_model({{"model", name},
                            {"d_model", "16"},
                            {"d_state", "4"},
                            {"mixer", "householder"},
                            {"solver", "sequential"},
                            {"tolerance", "1e-6"}},
                           task.vocabulary(), {context, rng});
  train(*model, task, context, {.steps = 100, .batch_size = 16, .length = 24, .lr = 1e-2},
        [](const StepMetrics&) { return true; });
  return model;
}

// Strings of two letters, which a small model has soon learnt in part.
const CopyingOptions kTiny{.letters = 2, .shortest = 4, .longest = 4};

}  // namespace

TEST_CASE("copying: a packed row is whole examples, answered as read, and one that is cut") {
  const Context context = test_context();
  const StringCopying task({.letters = 26, .shortest = 5, .longest = 50});
  CHECK(task.vocabulary() == 30);
  constexpr int64_t kRows = 4000, kLength = 256;
  const Batch batch = task.sample(context, Rng{5, 6}, kRows, kLength);
  REQUIRE(batch.tokens.shape() == Shape{kRows, kLength});
  const Read read(batch);
  std::map<int64_t, int64_t> first, letters;  // lengths of first examples
  Expected sums;
  for (int64_t b = 0; b < kRows; ++b) {
    const Ids row = read.row(b);
    const auto mask = read.mask.begin() + b * kLength, counted = read.counted.begin() + b * kLength;
    for (int64_t t = 0; t + 1 < kLength; ++t) REQUIRE(read.targets[b * kLength + t] == row[t + 1]);
    CHECK(read.targets[(b + 1) * kLength - 1] == 28);
    int64_t at = 0;
    while (at < kLength) {
      REQUIRE(row[at] == 26);
      const auto bar = std::find(row.begin() + at, row.end(), 27);
      const int64_t s = bar - row.begin() - at - 1, size = 2 * s + 3;
      if (at == 0) ++first[s];
      if (at + size > kLength) break;
      REQUIRE((s >= 5 && s <= 50));
      REQUIRE(part(row, at + 1, s) == part(row, at + s + 2, s));
      REQUIRE(row[at + size - 1] == 28);
      // |s| + 1 tokens, each asked for at the one before, of which the last does not count.
      for (int64_t i = 0; i < size; ++i) {
        const bool asked = i >= s + 1 && i < size - 1;
        REQUIRE(mask[at + i] == (asked ? 1 : 0));
        REQUIRE(counted[at + i] == (asked && i < size - 2 ? 1 : 0));
      }
      for (const int32_t letter : part(row, at + 1, s)) ++letters[letter];
      sums.whole += 1;
      sums.supervised += double(s + 1);
      at += size;
    }
    sums.cut += double(kLength - at);
    CHECK(std::all_of(mask + at, mask + kLength, [](real m) { return m == 0; }));
  }
  // |s| is uniform, with both ends: 87 each expected, deviation 9.2.
  CHECK(first.size() == 46);
  for (const auto& [s, times] : first) CHECK((s >= 5 && s <= 50 && times > 40 && times < 134));
  CHECK(letters.size() == 26);
  CHECK(letters.rbegin()->first == 25);
  const Expected of = expected(kLength, 5, 50);
  CHECK(of.whole == doctest::Approx(4.027).epsilon(1e-3));
  CHECK(of.supervised / kLength == doctest::Approx(0.4245).epsilon(1e-3));
  CHECK(of.cut / kLength == doctest::Approx(0.1353).epsilon(1e-3));
  CHECK(sums.whole / kRows == doctest::Approx(of.whole).epsilon(0.02));
  CHECK(sums.supervised / kRows == doctest::Approx(of.supervised).epsilon(0.02));
  CHECK(sums.cut / kRows == doctest::Approx(of.cut).epsilon(0.05));
}

TEST_CASE("copying: an examination has one example of the length a row, padded") {
  const Context context = test_context();
  const StringCopying task({.letters = 26});
  const Batch batch = task.examination(context, Rng{5, 6}, 64, 20);
  const Read read(batch);
  REQUIRE(read.T == 1 + 20 + 20 + 8);  // the first of 28 answers is given at the 22nd token
  for (int64_t b = 0; b < read.B; ++b) {
    const Ids row = read.row(b);
    CHECK((row[0] == 26 && row[21] == 27));
    CHECK(part(row, 1, 20) == part(row, 22, 20));
    CHECK(part(row, 42, read.T - 42) == Ids(read.T - 42, 28));
    for (int64_t t = 0; t < read.T; ++t) {
      CHECK(read.mask[b * read.T + t] == (t >= 21 && t <= 41 ? 1 : 0));
      CHECK(read.counted[b * read.T + t] == (t >= 21 && t <= 40 ? 1 : 0));
    }
  }
  // A machine that reads |s| + 1 tokens before its target copies; no other distance does.
  for (int64_t distance = 1; distance < read.T; ++distance)
    CHECK(strings_of_distance(batch, distance) == (distance == 21 ? 1 : 0));
  CHECK(StringCopying({.letters = 1}).examination(context, {}, 2, 1).tokens.shape() ==
        Shape{2, 11});
}

TEST_CASE("copying: n-grams occur once, and the answer is what follows them") {
  const Context context = test_context();
  for (const bool before : {true, false})
    for (const int64_t answer : {0, 2}) {
      const StringCopying task({.variant = before ? CopyingVariant::prefix : CopyingVariant::suffix,
                                .letters = 4,
                                .shortest = 8,
                                .longest = 12,
                                .answer = answer});
      constexpr int64_t s = 12, n = 3;
      const Batch batch = task.examination(context, Rng{7, 8}, 300, s);
      const Read read(batch);
      std::set<int64_t> places;
      for (int64_t b = 0; b < read.B; ++b) {
        const Ids row = read.row(b);
        const Ids string = part(row, before ? n + 2 : 1, s), g = part(row, before ? 1 : s + 2, n);
        CHECK(row[before ? 1 + n : 1 + s] == 5);
        CHECK(row[before ? s + n + 2 : 0] == (before ? 5 : 4));
        REQUIRE(occurrences(string, g) == 1);
        const auto found = std::search(string.begin(), string.end(), g.begin(), g.end());
        const int64_t place = found - string.begin(), rest = s - place - n;
        const int64_t said = answer == 0 ? rest : answer, begin = s + n + (before ? 3 : 2);
        places.insert(place);
        REQUIRE((said >= 1 && said <= rest));
        CHECK(part(row, begin, said) == part(string, place + n, said));
        CHECK(row[begin + said] == 6);
        for (int64_t t = 0; t < read.T; ++t) {
          CHECK(read.mask[b * read.T + t] == (t >= begin - 1 && t <= begin - 1 + said ? 1 : 0));
          CHECK(read.counted[b * read.T + t] == (t >= begin - 1 && t < begin - 1 + said ? 1 : 0));
        }
      }
      // All places that leave an answer, the last one too.
      CHECK(std::ssize(places) == s - n - std::max<int64_t>(answer, 1) + 1);
    }
}

TEST_CASE("copying: duplicates hold an n-gram twice, in an examination alone") {
  const Context context = test_context();
  const StringCopying plain({.letters = 26}), task({.letters = 26, .duplicate = true});
  const auto repeated = [](const Ids& s) {
    for (int64_t i = 0; i + 3 <= std::ssize(s); ++i)
      if (occurrences(part(s, i, std::ssize(s) - i), part(s, i, 3)) > 1) return true;
    return false;
  };
  for (const int64_t length : {8, 30}) {
    const Batch batch = task.examination(context, Rng{1, 2}, 200, length);
    const Read read(batch), other(plain.examination(context, Rng{1, 2}, 200, length));
    int64_t twice = 0;
    for (int64_t b = 0; b < read.B; ++b) {
      CHECK(repeated(part(read.row(b), 1, length)));
      twice += repeated(part(other.row(b), 1, length));
    }
    CHECK(twice < 20);  // by chance 4 of 200 at 30
    CHECK(strings_of_distance(batch, length + 1) == 1);
  }
  CHECK(task.sample(context, Rng{1}, 3, 200).tokens.to_vector() ==
        plain.sample(context, Rng{1}, 3, 200).tokens.to_vector());
}

TEST_CASE("copying: batches are a pure function of rng, and fewer rows are the first ones") {
  const Context context = context_with(1), other = context_with(3);
  for (const auto variant :
       {CopyingVariant::copy, CopyingVariant::prefix, CopyingVariant::suffix}) {
    const StringCopying task({.variant = variant, .letters = 5, .shortest = 6, .longest = 9});
    const Rng rng{8, 1};
    const Read first(task.sample(context, rng, 5, 70)), again(task.sample(other, rng, 5, 70)),
        fewer(task.sample(context, rng, 2, 70)), shorter(task.sample(context, rng, 5, 40));
    CHECK(first.tokens == again.tokens);
    CHECK(first.mask == again.mask);
    for (const int64_t b : {0, 1}) CHECK(fewer.row(b) == first.row(b));
    for (int64_t b = 0; b < 5; ++b) CHECK(shorter.row(b) == part(first.row(b), 0, 40));
    CHECK(first.tokens != Read(task.sample(context, Rng{8, 2}, 5, 70)).tokens);
    CHECK(first.tokens != Read(task.sample(context, Rng{9, 1}, 5, 70)).tokens);
    const Read exam(task.examination(context, rng, 5, 9)), few(task.examination(other, rng, 2, 9));
    for (const int64_t b : {0, 1}) CHECK(few.row(b) == exam.row(b));
    CHECK(std::set<Ids>{exam.row(0), exam.row(1), exam.row(2), exam.row(3)}.size() == 4);
  }
}

TEST_CASE("copying: settings that cannot work are refused") {
  const Context context = test_context();
  const auto refused = [](const std::string& fragment, const CopyingOptions& options) {
    check_refused<ValueError>(fragment, [&] { StringCopying task(options); });
  };
  for (const int64_t letters : {-1, 0, 27}) refused("letters", {.letters = letters});
  refused("shortest and longest", {.shortest = 0});
  refused("shortest and longest", {.shortest = 6, .longest = 5});
  refused("shortest and longest", {.longest = 1'000'001});
  refused("n-gram", {.ngram = 0});
  refused("n-gram", {.answer = -1});
  refused("its n-gram", {.variant = CopyingVariant::prefix, .shortest = 3});
  refused("its n-gram", {.variant = CopyingVariant::suffix, .shortest = 5, .answer = 3});
  refused("copy alone", {.variant = CopyingVariant::suffix, .duplicate = true});
  check_refused<ValueError>("variants", [] { copying_variant_named("duplicate"); });
  const StringCopying task({}), twice({.duplicate = true});
  check_refused<ValueError>("longest example", [&] { task.sample(context, {}, 2, 102); });
  check_refused<ValueError>("longest example", [&] { task.check_training(102); });
  task.check_training(103);
  for (const int64_t length : {1, 200}) task.check_examination(length);
  check_refused<ValueError>("fewest", [&] { task.examination(context, {}, 2, 0); });
  check_refused<ValueError>("fewest", [&] { task.check_examination(1'000'001); });
  check_refused<ValueError>("fewest", [&] { twice.examination(context, {}, 2, 7); });
  check_refused<ValueError>("batch", [&] { task.examination(context, {}, 0, 5); });
  check_refused<ValueError>("batch", [&] { task.sample(context, {}, -1, 256); });
  // One letter: every n-gram of a longer string occurs again and again.
  const StringCopying one({.variant = CopyingVariant::prefix, .letters = 1});
  check_refused<ValueError>("occur once", [&] { one.sample(context, {}, 1, 256); });
}

TEST_CASE("copying: decoding is greedy, from the mask on, to the answer's end") {
  const Context context = test_context();
  const StringCopying task(kTiny);
  const auto model = trained(context, task, "mamba");
  Batch batch = task.examination(context, Rng{2, 3}, 6, 3);
  const int64_t T = batch.tokens.size(1);
  std::vector<real> mask(6 * T);
  for (int64_t b = 0; b < 5; ++b) mask[b * T + 2 + b] = 1;  // each from elsewhere, the last never
  batch.mask = Tensor(context, {6, T}, mask);
  const Ids tokens = batch.tokens.to_vector();
  for (const int32_t end : {0, 1, 4, 5}) {
    const Ids decoded = decode(*model, context, batch, end).to_vector();
    for (int64_t b = 0; b < 6; ++b) {
      Ids wanted(T, -1), read = part(tokens, b * T, b < 5 ? b + 3 : 0);
      while (b < 5 && std::ssize(read) <= T) {
        NoGrad tape(context);
        const auto size = static_cast<int64_t>(read.size());
        const Ids said =
            argmax(model->forward(tape, IntTensor(context, {1, size}, read)).value()).to_vector();
        wanted[size - 1] = said.back();
        if (said.back() == end) break;
        read.push_back(said.back());
      }
      CHECK(part(decoded, b * T, T) == wanted);
    }
  }
  // What is no number is no answer, and ends a row.
  for (const auto& [path, parameter] : model->parameters())
    parameter->value =
        full(context, parameter->value.shape(), std::numeric_limits<real>::quiet_NaN());
  CHECK(decode(*model, context, batch, 4).to_vector() == Ids(6 * T, -1));
}

TEST_CASE("copying: a string is right in both decodings or in none") {
  const Context context = test_context();
  const StringCopying task(kTiny);
  constexpr int64_t kLetters = 4;
  int64_t differ = 0;  // in letters
  for (const std::string name : {"mamba", "fp-mamba"}) {
    INFO(name);
    const auto model = trained(context, task, name);
    const Batch batch = task.examination(context, evaluation_stream(0, kLetters), 256, kLetters);
    NoGrad tape(context);
    const IntTensor answers = argmax(model->forward(tape, batch.tokens).value());
    const std::vector<Score> read = scores(answers, batch),
                             free = scores(decode(*model, context, batch, 4), batch);
    int64_t right = 0;
    for (size_t b = 0; b < read.size(); ++b) {
      CHECK((read[b].right == kLetters) == (free[b].right == kLetters));
      CHECK(read[b].before_error == free[b].before_error);
      right += read[b].right == kLetters;
      differ += read[b].right != free[b].right;
    }
    // Some, or this would show nothing.
    CHECK(right > 5);
    CHECK(right < 250);
    const LengthResult result = evaluate(*model, task, context, 0, kLetters, 256);
    REQUIRE(result.metrics.size() == 5);
    CHECK(result.metrics.front().first == "characters");
    CHECK(result.metric("strings") == double(right) / 256);
    CHECK(result.metric("free_strings") == result.metric("strings"));
    CHECK(result.metric("free_exact") <= result.metric("free_strings"));
  }
  CHECK(differ > 0);
}

}  // namespace fprnn::tests
