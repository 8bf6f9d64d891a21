#include <fprnn/core/text.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/draws.h>
#include <fprnn/tasks/string_copying.h>

#include <algorithm>
#include <cstdlib>

namespace fprnn {

namespace {

constexpr int64_t kMostLetters = 26, kLongest = 1'000'000;
constexpr int64_t kBeyond = 8;  // tokens that a decoded answer may have more than letters
constexpr int kTries = 1000;    // strings drawn for one n-gram that occurs once

using Letters = std::vector<int32_t>;

bool has_ngram(const CopyingOptions& o) { return o.variant != CopyingVariant::copy; }
int64_t least_answer(const CopyingOptions& o) { return std::max<int64_t>(o.answer, 1); }
int64_t most_answer(const CopyingOptions& o, int64_t length) {
  if (!has_ngram(o)) return length;
  return o.answer > 0 ? o.answer : length - o.ngram;
}
// Where the answer begins.
int64_t before_answer(const CopyingOptions& o, int64_t length) {
  const int64_t separator = o.variant == CopyingVariant::prefix ? 1 : 0;
  return 1 + length + 1 + (has_ngram(o) ? o.ngram + separator : 0);
}
int64_t shortest_string(const CopyingOptions& o) {
  return has_ngram(o) ? o.ngram + least_answer(o) : 1;
}
int64_t longest_example(const CopyingOptions& o) {
  return before_answer(o, o.longest) + most_answer(o, o.longest) + 1;
}
// Of an examination's row: the model says its first letter at the last token before the answer.
int64_t row_length(const CopyingOptions& o, int64_t length) {
  return before_answer(o, length) - 1 + most_answer(o, length) + kBeyond;
}

void check_context(const CopyingOptions& o, int64_t length) {
  require<ValueError>(length >= longest_example(o), "copying",
                      "the length trained at must hold the longest example: length and example",
                      length, longest_example(o));
}

void check_string(const CopyingOptions& o, int64_t length) {
  const int64_t least = o.duplicate ? 3 * o.ngram - 1 : shortest_string(o);
  require<ValueError>(length >= least && length <= kLongest, "copying",
                      "a string must hold its n-gram and an answer, and have a million letters at "
                      "most: its letters and the fewest",
                      length, least);
}

Letters random_letters(const CopyingOptions& o, Draws& draws, int64_t length) {
  Letters s(length);
  for (int32_t& letter : s) letter = static_cast<int32_t>(draws.below(o.letters));
  return s;
}

// Places of the n-grams that occur once in s, with at least `after` letters behind.
std::vector<int64_t> places_once(const Letters& s, int64_t n, int64_t after) {
  const auto size = static_cast<int64_t>(s.size());
  std::vector<int64_t> places;
  for (int64_t i = 0; i + n + after <= size; ++i) {
    bool once = true;
    for (int64_t j = 0; once && j + n <= size; ++j)
      once = i == j || !std::equal(s.begin() + i, s.begin() + i + n, s.begin() + j);
    if (once) places.push_back(i);
  }
  return places;
}

struct Marked {
  Letters s;
  int64_t place;  // of an n-gram that occurs once
};
Marked marked_string(const CopyingOptions& o, Draws& draws, int64_t length, int64_t after) {
  for (int i = 0; i < kTries; ++i) {
    Letters s = random_letters(o, draws, length);
    const std::vector<int64_t> places = places_once(s, o.ngram, after);
    if (!places.empty()) return {std::move(s), places[draws.below(std::ssize(places))]};
  }
  throw ValueError("copying", "an n-gram must occur once in a string: letters, length and n",
                   std::array{describe(o.letters), describe(length), describe(o.ngram)});
}

// A string with an n-gram at two places that do not overlap.
Letters duplicated_string(const CopyingOptions& o, Draws& draws, int64_t length) {
  auto [s, place] = marked_string(o, draws, length, 0);
  std::vector<int64_t> others;
  for (int64_t j = 0; j + o.ngram <= length; ++j)
    if (std::abs(j - place) >= o.ngram) others.push_back(j);
  const int64_t other = others[draws.below(std::ssize(others))];
  std::copy_n(s.begin() + other, o.ngram, s.begin() + place);
  return s;
}

struct Example {
  Letters tokens;
  int64_t answer = 0;  // where its letters begin; they end before the last token
};

Example example_of(const CopyingOptions& o, const Letters& s, const Letters& ngram,
                   const Letters& answer) {
  const auto begin = static_cast<int32_t>(o.letters), bar = begin + 1, end = begin + 2;
  Letters tokens{begin};
  const auto add = [&tokens](const Letters& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  if (o.variant == CopyingVariant::prefix) {
    add(ngram);
    tokens.push_back(bar);
  }
  add(s);
  tokens.push_back(bar);
  if (o.variant == CopyingVariant::suffix) add(ngram);
  const auto place = std::ssize(tokens);
  add(answer);
  tokens.push_back(end);
  return {std::move(tokens), place};
}

Example random_example(const CopyingOptions& o, Draws& draws, int64_t length, bool duplicate) {
  if (!has_ngram(o)) {
    const Letters s =
        duplicate ? duplicated_string(o, draws, length) : random_letters(o, draws, length);
    return example_of(o, s, {}, s);
  }
  const auto [s, place] = marked_string(o, draws, length, least_answer(o));
  const auto ngram = s.begin() + place, behind = ngram + o.ngram;
  return example_of(o, s, {ngram, behind}, {behind, o.answer > 0 ? behind + o.answer : s.end()});
}

// Rows that are filled from their first token on.
class Rows {
 public:
  Rows(int64_t B, int64_t T, int32_t padding)
      : shape_{B, T},
        padding_(padding),
        tokens_(host_vector<int32_t>(shape_)),
        mask_(host_vector<real>(shape_)),
        counted_(mask_) {
    std::ranges::fill(tokens_, padding);
  }

  // As much as there is room for; what is cut is not asked for.
  void put(int64_t row, int64_t at, const Example& example) {
    const int64_t T = shape_[1], size = std::ssize(example.tokens);
    const int64_t place = row * T + at;
    std::copy_n(example.tokens.begin(), std::min(size, T - at), tokens_.begin() + place);
    if (at + size > T) return;
    // Each token is predicted at the one before.
    for (int64_t i = example.answer - 1; i < size - 1; ++i) mask_[place + i] = 1;
    for (int64_t i = example.answer - 1; i < size - 2; ++i) counted_[place + i] = 1;
  }

  Batch batch(const Context& context) const {
    const int64_t T = shape_[1];
    Letters targets = tokens_;
    for (auto row = targets.begin(); row != targets.end(); row += T) {
      std::copy(row + 1, row + T, row);
      row[T - 1] = padding_;
    }
    return {.tokens = IntTensor(context, shape_, tokens_),
            .targets = IntTensor(context, shape_, targets),
            .mask = Tensor(context, shape_, mask_),
            .counted = Tensor(context, shape_, counted_)};
  }

 private:
  Shape shape_;
  int32_t padding_;
  Letters tokens_;
  std::vector<real> mask_, counted_;
};

// What the model says when it reads its own draws.
Answered decoded(const Answered& answered, const Batch& batch) {
  return {batch, answered.decoded, answered.logits, scores(answered.decoded, batch)};
}

}  // namespace

CopyingVariant copying_variant_named(std::string_view name) {
  if (name == "copy") return CopyingVariant::copy;
  if (name == "prefix") return CopyingVariant::prefix;
  require<ValueError>(name == "suffix", "copying", "variants are copy, prefix and suffix", name);
  return CopyingVariant::suffix;
}

StringCopying::StringCopying(const CopyingOptions& options) : options_(options) {
  const CopyingOptions& o = options_;
  require<ValueError>(o.letters >= 1 && o.letters <= kMostLetters, "copying",
                      "there must be 1 to 26 letters", o.letters);
  require<ValueError>(o.shortest >= 1 && o.shortest <= o.longest && o.longest <= kLongest,
                      "copying",
                      "strings must have 1 to 1000000 letters, and as many in the longest as in "
                      "the shortest at least: shortest and longest",
                      o.shortest, o.longest);
  require<ValueError>(
      o.ngram >= 1 && o.ngram <= kLongest && o.answer >= 0 && o.answer <= kLongest, "copying",
      "an n-gram must have 1 to 1000000 letters, its answer 0 to 1000000", o.ngram, o.answer);
  require<ValueError>(!o.duplicate || !has_ngram(o), "copying",
                      "duplicates are an examination of the variant copy alone");
  require<ValueError>(o.shortest >= shortest_string(o), "copying",
                      "the shortest string must hold its n-gram and an answer: its letters and the "
                      "fewest",
                      o.shortest, shortest_string(o));
}

void StringCopying::check_training(int64_t length) const { check_context(options_, length); }
void StringCopying::check_examination(int64_t length) const { check_string(options_, length); }

std::string StringCopying::name_of(int32_t token) const {
  const auto letters = static_cast<int32_t>(options_.letters);
  return std::string(1, token < letters ? static_cast<char>('a' + token) : "$|.*"[token - letters]);
}

std::optional<int32_t> StringCopying::end_of_answer() const {
  return static_cast<int32_t>(options_.letters + 2);
}

Batch StringCopying::sample(const Context& context, const Rng& rng, int64_t B,
                            int64_t length) const {
  check_batch("copying", B, length);
  check_training(length);
  const CopyingOptions& o = options_;
  Rows rows(B, length, *end_of_answer());
  for (int64_t b = 0; b < B; ++b) {
    Draws draws(rng, static_cast<uint64_t>(b) << 32);
    for (int64_t at = 0; at < length;) {
      const int64_t letters = o.shortest + draws.below(o.longest - o.shortest + 1);
      const Example example = random_example(o, draws, letters, false);
      rows.put(b, at, example);
      at += std::ssize(example.tokens);
    }
  }
  return rows.batch(context);
}

Batch StringCopying::examination(const Context& context, const Rng& rng, int64_t B,
                                 int64_t length) const {
  check_examination(length);
  const int64_t T = row_length(options_, length);
  check_batch("copying", B, T);
  Rows rows(B, T, *end_of_answer());
  for (int64_t b = 0; b < B; ++b) {
    Draws draws(rng, static_cast<uint64_t>(b) << 32);
    rows.put(b, 0, random_example(options_, draws, length, options_.duplicate));
  }
  return rows.batch(context);
}

std::vector<Metric> StringCopying::metrics() const {
  const auto exact = [](const Answered& answered) {
    Batch all = answered.batch;
    all.counted = {};  // the `.` too
    return whole_sequences(decoded(answered, all));
  };
  return {
      {.name = "characters", .over = tokens, .caption = "letters right"},
      {.name = "strings", .over = whole_sequences},
      {.name = "free_characters",
       .over = [](const Answered& answered) { return tokens(decoded(answered, answered.batch)); }},
      {.name = "free_strings",
       .over =
           [](const Answered& answered) {
             return whole_sequences(decoded(answered, answered.batch));
           }},
      {.name = "free_exact", .over = exact}};
}

}  // namespace fprnn
