#include <fprnn/tasks/language_modelling.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace fprnn {

namespace {

constexpr int64_t kTokensAtOnce = 1 << 14;  // of a batch in an evaluation

// In [0, n), for any n: the high word of a product of 128 bits.
int64_t place_below(const Rng& rng, uint64_t index, int64_t n) {
  __extension__ using Wide = unsigned __int128;
  const uint64_t word = uint64_t{rng.bits(2 * index)} << 32 | rng.bits(2 * index + 1);
  return static_cast<int64_t>((Wide{word} * static_cast<uint64_t>(n)) >> 64);
}

int64_t bytes_of(const Batch& batch) {
  const std::vector<int32_t> tokens = batch.targets.to_vector();
  const std::vector<real> weights = batch.mask.to_vector();
  int64_t bytes = 0;
  for (size_t i = 0; i < tokens.size(); ++i) bytes += weights[i] > 0 && tokens[i] != Text::kBorder;
  return bytes;
}

}  // namespace

LanguageModelling::LanguageModelling(Text text, const Options& options)
    : text_(std::move(text)), options_(options) {
  require<ValueError>(options.most >= 0, "language_model",
                      "the tokens to evaluate must not be negative", options.most);
}

LanguageModelling::Range LanguageModelling::part(Part which) const {
  const int64_t N = text_.size(), training = N - N / 10, validation = N - N / 20;
  if (which == Part::training) return {0, training};
  return which == Part::validation ? Range{training, validation} : Range{validation, N};
}

LanguageModelling::Range LanguageModelling::beginning_of(Part which) const {
  Range range = part(which);
  if (options_.most > 0) range.end = std::min(range.end, range.begin + options_.most);
  return range;
}

Batch LanguageModelling::rows(const Context& context, std::span<const int64_t> begins,
                              int64_t length, int64_t end, bool starts) const {
  const auto B = static_cast<int64_t>(begins.size());
  std::vector<int32_t> tokens = host_vector<int32_t>({B, length}), targets = tokens;
  std::vector<real> mask = host_vector<real>({B, length});
  for (int64_t b = 0; b < B; ++b) {
    const int64_t begin = begins[b], there = std::min(length, end - begin);
    const auto row = [&](auto& all) { return std::span(all).subspan(b * length, length); };
    text_.read(begin, row(targets).first(there));
    std::ranges::fill(row(mask).first(there), real(1));
    std::ranges::copy(row(targets).first(there - 1), row(tokens).begin() + 1);
    if (starts)
      row(tokens).front() = Text::kBorder;
    else
      text_.read(begin - 1, row(tokens).first(1));
  }
  return {.tokens = IntTensor(context, {B, length}, tokens),
          .targets = IntTensor(context, {B, length}, targets),
          .mask = Tensor(context, {B, length}, mask),
          .starts = starts};
}

Batch LanguageModelling::sample(const Context& context, const Rng& rng, int64_t B,
                                int64_t length) const {
  check_batch("language_model", B, length);
  check_training(length);
  const Range range = part(Part::training);
  std::vector<int64_t> begins(B);
  for (int64_t b = 0; b < B; ++b)
    begins[b] = range.begin + place_below(rng, b, range.size() - length + 1);
  return rows(context, begins, length, range.end, true);
}

Batch LanguageModelling::training_batch(const Context& context, uint64_t seed, int64_t number,
                                        int64_t B, int64_t length) const {
  if (!options_.carries_state) return Task::training_batch(context, seed, number, B, length);
  check_batch("language_model", B, length);
  const Range range = part(Part::training);
  check_lanes(B, length);
  const int64_t lane = range.size() / B, batches = lane / length;
  std::vector<int64_t> begins(B);
  for (int64_t b = 0; b < B; ++b) begins[b] = range.begin + b * lane + number % batches * length;
  return rows(context, begins, length, range.end, number % batches == 0);
}

Reading LanguageModelling::windows(const Range& range, int64_t length) const {
  const int64_t windows = (range.size() + length - 1) / length;
  const int64_t at_once = std::max<int64_t>(1, kTokensAtOnce / length);
  return {.length = length,
          .sequences = windows,
          .batches = (windows + at_once - 1) / at_once,
          .batch = [=, this](const Context& context, int64_t number) {
            std::vector<int64_t> begins;
            for (int64_t i = number * at_once; i < std::min((number + 1) * at_once, windows); ++i)
              begins.push_back(range.begin + i * length);
            return rows(context, begins, length, range.end, true);
          }};
}

std::optional<Reading> LanguageModelling::reading(int64_t length) const {
  return windows(held_out(), length);
}
std::optional<Reading> LanguageModelling::validation(int64_t length) const {
  return windows(beginning_of(Part::validation), length);
}

std::vector<Reading> LanguageModelling::texts() const {
  const Range range = held_out();
  return {{.length = range.size(),
           .sequences = 1,
           .batches = (range.size() + kTokensAtOnce - 1) / kTokensAtOnce,
           .carries = true,
           .batch = [=, this](const Context& context, int64_t number) {
             const int64_t begin = range.begin + number * kTokensAtOnce;
             return rows(context, std::array{begin}, std::min(kTokensAtOnce, range.end - begin),
                         range.end, number == 0);
           }}};
}

void LanguageModelling::check_lanes(int64_t B, int64_t length) const {
  const int64_t tokens = part(Part::training).size();
  require<ValueError>(!options_.carries_state || tokens / B >= length, "language_model",
                      "the lanes must be as long as a sequence: tokens, lanes and length", tokens,
                      B, length);
}

void LanguageModelling::check_training(int64_t length) const {
  const int64_t tokens = part(Part::training).size();
  require<ValueError>(
      length <= tokens, "language_model",
      "the part that is trained on must be as long as a sequence: tokens and length", tokens,
      length);
}

void LanguageModelling::check_examination(int64_t length) const {
  const int64_t tokens = held_out().size();
  require<ValueError>(tokens >= 1, "language_model",
                      "the text must be so long that a part can be held out: its tokens",
                      text_.size());
  check_batch("language_model", 1, length);
}

std::string LanguageModelling::data() const { return text_.description(); }

std::optional<Unit> LanguageModelling::unit() const {
  return Unit{.name = "byte", .count = bytes_of};
}

std::vector<Metric> LanguageModelling::metrics() const {
  const auto over_bytes = [](const Answered& answered) {
    return Mean{.sum = nats(answered).sum, .weight = double(bytes_of(answered.batch))};
  };
  return {
      {.name = "bits_per_byte",
       .over = over_bytes,
       .finish = [](double mean) { return mean / std::numbers::ln2; },
       .caption = "bits per byte"},
      {.name = "perplexity", .over = nats, .finish = [](double mean) { return std::exp(mean); }},
      {.name = "tokens", .over = tokens}};
}

}  // namespace fprnn
