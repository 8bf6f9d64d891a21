#include <fprnn/core/vector.h>
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/draws.h>

#include <algorithm>
#include <array>
#include <bit>
#include <span>

namespace fprnn {

namespace {

constexpr int64_t kShortest = 3;
constexpr int kModulus = 5;

// Writes a row up to its supervised position and returns its answer, counted from 0.
using Write = int (*)(std::span<int32_t> tokens, Draws& draws, bool times);

int applied(int64_t op, int left, int right) {
  const int value = op == 0 ? left + right : op == 1 ? left - right + kModulus : left * right;
  return value % kModulus;
}

constexpr int32_t kBracketSign = 5, kBracketMinus = 6, kOpen = 8, kClose = 9, kBracketEquals = 10;

// Nested about as deeply as a search tree that is filled at random: logarithmically.
int bracketed(std::span<int32_t> out, Draws& draws, bool times) {
  const auto size = static_cast<int64_t>(out.size());
  if (size >= 3) {
    out.front() = kOpen;
    out.back() = kClose;
  }
  if (size <= 4) {
    const auto digit = static_cast<int>(draws.below(kModulus));
    const bool negative = size % 2 == 0;
    const int64_t at = (size >= 3 ? 1 : 0) + (negative ? 1 : 0);
    if (negative) out[at - 1] = kBracketMinus;
    out[at] = digit;
    return negative ? (kModulus - digit) % kModulus : digit;
  }
  const int64_t left_size = 1 + draws.below(size - 4);
  const int64_t op = draws.below(times ? 3 : 2);
  const int left = bracketed(out.subspan(1, left_size), draws, times);
  out[1 + left_size] = kBracketSign + static_cast<int32_t>(op);
  const int right = bracketed(out.subspan(2 + left_size, size - 3 - left_size), draws, times);
  return applied(op, left, right);
}

int write_brackets(std::span<int32_t> tokens, Draws& draws, bool times) {
  tokens.back() = kBracketEquals;
  return bracketed(tokens.first(tokens.size() - 1), draws, times);
}

// sum + term so far, of which * changes the term alone.
int write_plain(std::span<int32_t> tokens, Draws& draws, bool times) {
  constexpr int32_t kSign = 1, kEquals = 4, kDigit = 5;
  int sum = 0, term = 0;
  for (size_t i = 0; i + 1 < tokens.size(); i += 2) {
    const int64_t op = i == 0 ? 0 : draws.below(times ? 3 : 2);
    const auto digit = static_cast<int>(draws.below(kModulus));
    if (i > 0) tokens[i - 1] = kSign + static_cast<int32_t>(op);
    tokens[i] = kDigit + digit;
    if (op < 2) sum = applied(0, sum, term);
    term = op < 2 ? applied(op, 0, digit) : applied(op, term, digit);
  }
  tokens.back() = kEquals;
  return applied(0, sum, term);
}

int write_parity(std::span<int32_t> tokens, Draws& draws, bool) {
  int twos = 0;
  for (int32_t& token : tokens) twos += (token = 1 + static_cast<int32_t>(draws.below(2))) == 2;
  return twos % 2;
}

int write_even_pairs(std::span<int32_t> tokens, Draws& draws, bool) {
  for (int32_t& token : tokens) token = 1 + static_cast<int32_t>(draws.below(2));
  return tokens.front() == tokens.back() ? 0 : 1;
}

int write_cycle(std::span<int32_t> tokens, Draws& draws, bool) {
  constexpr std::array kMove = {0, 1, kModulus - 1};
  int place = 0;
  for (int32_t& token : tokens) {
    const int64_t move = draws.below(3);
    token = 1 + static_cast<int32_t>(move);
    place = (place + kMove[move]) % kModulus;
  }
  return place;
}

}  // namespace

struct Arithmetic::Variant {
  std::string_view name;
  Write write;
  int32_t pad, first_answer, answers, vocabulary;
  int64_t shortest;        // row
  int64_t blank;           // tokens after the supervised one
  bool odd;                // whether lengths are
  std::string_view signs;  // of each token

  // Rows are drawn by number, since odd lengths are not next to each other: the number of the longest
  // row of at most so many tokens, and the length of a row.
  int64_t number(int64_t length) const { return odd ? (length + 1) / 2 : length; }
  int64_t length(int64_t number) const { return std::max(odd ? 2 * number - 1 : number, shortest); }
};

namespace {

constexpr std::array<Arithmetic::Variant, 5> kVariants = {{
    {"brackets", write_brackets, 11, 0, kModulus, 12, 5, 2, false, "01234+-*()=_"},
    {"plain", write_plain, 0, 5, kModulus, 10, kShortest, 1, true, "_+-*=01234"},
    {"parity", write_parity, 0, 1, 2, 3, kShortest, 1, false, "_12"},
    {"even-pairs", write_even_pairs, 0, 1, 2, 3, kShortest, 1, false, "_12"},
    {"cycle", write_cycle, 0, 4, kModulus, 9, kShortest, 1, false, "_.+-01234"},
}};

const Arithmetic::Variant& variant_named(std::string_view name) {
  const auto found = std::ranges::find(kVariants, name, &Arithmetic::Variant::name);
  require<ValueError>(found != kVariants.end(), "variant",
                      "variants are brackets, plain, parity, even-pairs and cycle", name);
  return *found;
}

// How often the answer is this one, whatever is asked.
Mean share_of(const Answered& answered, int32_t answer) {
  const std::vector<int32_t> targets = answered.batch.targets.to_vector();
  const std::vector<real> mask = answered.batch.mask.to_vector();
  Mean mean;
  for (size_t i = 0; i < mask.size(); ++i)
    if (mask[i] != 0) mean.add(targets[i] == answer ? 1 : 0);
  return mean;
}

}  // namespace

Arithmetic::Arithmetic(const ArithmeticOptions& options)
    : variant_(variant_named(options.variant)),
      times_(options.times),
      test_from_(options.test_from) {
  require<ValueError>(test_from_ == 0 || test_from_ >= kShortest, "test_from",
                      "must be 0, for the evaluated length alone, or a length from 3", test_from_);
}

void Arithmetic::check_training(int64_t length) const {
  require<ValueError>(length >= kShortest, "arithmetic", "lengths must be at least 3", length);
}

int64_t Arithmetic::vocabulary() const { return variant_.vocabulary; }

std::string Arithmetic::name_of(int32_t token) const {
  return std::string(1, variant_.signs[token]);
}

Batch Arithmetic::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  return batch(context, rng, B, kShortest, length);
}

Batch Arithmetic::examination(const Context& context, const Rng& rng, int64_t B,
                              int64_t length) const {
  return batch(context, rng, B, test_from_ == 0 ? length : std::min(test_from_, length), length);
}

Batch Arithmetic::batch(const Context& context, const Rng& rng, int64_t B, int64_t from,
                        int64_t to) const {
  check_batch("arithmetic", B, to);
  check_training(to);
  const Variant& v = variant_;
  const int64_t least = v.number(from), T = v.length(v.number(to));
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T});
  std::vector<real> mask = host_vector<real>({B, T});
  std::ranges::fill(tokens, v.pad);
  std::vector<int32_t> targets = tokens;
  for (int64_t b = 0; b < B; ++b) {
    Draws draws(rng,
                static_cast<uint64_t>(b * (T + 2)));  // a row reads fewer than its length and two
    const int64_t length = v.length(least + draws.below(v.number(to) - least + 1));
    const int64_t supervised = b * T + length - v.blank - 1;
    const std::span row = std::span(tokens).subspan(b * T, length - v.blank);
    targets[supervised] = v.first_answer + v.write(row, draws, times_);
    mask[supervised] = 1;
  }
  return {.tokens = IntTensor(context, {B, T}, tokens),
          .targets = IntTensor(context, {B, T}, targets),
          .mask = Tensor(context, {B, T}, mask)};
}

std::vector<Metric> Arithmetic::metrics() const {
  const auto scaled = [answers = variant_.answers](double accuracy) {
    return fprnn::scaled(accuracy, answers);
  };
  const auto constant = [answer = variant_.first_answer](const Answered& answered) {
    return share_of(answered, answer);
  };
  return {{.name = "accuracy",
           .over = whole_sequences,
           .caption = "answers right",
           .of_sequences = true},
          {.name = "scaled_accuracy", .over = whole_sequences, .finish = scaled},
          {.name = "constant", .over = constant},
          {.name = "scaled_constant", .over = constant, .finish = scaled}};
}

Protocols Arithmetic::protocols(const Curves& curves) const {
  constexpr int64_t kBands = 8;
  const std::map<int64_t, Mean>& right = curves.by_end();
  if (test_from_ == 0 || right.empty()) return {};
  const int64_t behind = 1 + variant_.blank;  // from the supervised position to the row's end
  const int64_t least = right.begin()->first + behind, most = right.rbegin()->first + behind;
  const auto width =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>((most - least) / kBands + 1)));
  std::map<int64_t, Mean> bands;  // by their greatest lengths
  for (const auto& [end, mean] : right)
    bands[std::min(most, ((end + behind - 1) / width + 1) * width)].add(mean);
  Protocols protocols;
  for (const auto& [length, mean] : bands)
    protocols.bands.push_back({length,
                               {{"sequences", mean.weight},
                                {"accuracy", mean.value()},
                                {"scaled_accuracy", scaled(mean.value(), variant_.answers)}}});
  return protocols;
}

}  // namespace fprnn
