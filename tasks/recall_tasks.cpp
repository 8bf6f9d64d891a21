#include <fprnn/core/text.h>
#include <fprnn/tasks/recall_tasks.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace fprnn {

namespace {

constexpr size_t kMostNumbers = 64;
constexpr int64_t kMostTokens = int64_t{1} << 20;
constexpr uint64_t kWordsOfPlace = 2;  // at most, on average over a row's places

// k of first .. first + n - 1, in random order.
std::vector<int32_t> distinct(Draws& draws, int64_t k, int64_t first, int64_t n) {
  std::vector<int32_t> all(n);
  std::iota(all.begin(), all.end(), static_cast<int32_t>(first));
  draw_to_front(all, k, draws);
  all.resize(k);
  return all;
}

// k of 0 .. n - 1, one after the other, i with a probability of (i + 1)^(power - 1) / sum of those
// left: in a race of exponential times with these rates the first k arrive so.
std::vector<int64_t> slots(Draws& draws, int64_t k, int64_t n, double power) {
  std::vector<std::pair<double, int64_t>> arrivals(n);
  for (int64_t i = 0; i < n; ++i)
    arrivals[i] = {draws.exponential() * std::pow(static_cast<double>(i + 1), 1 - power), i};
  std::partial_sort(arrivals.begin(), arrivals.begin() + k, arrivals.end());
  std::vector<int64_t> first(k);
  for (int64_t j = 0; j < k; ++j) first[j] = arrivals[j].second;
  return first;
}

void check_vocabulary(int64_t vocabulary, int64_t least) {
  require<ValueError>(vocabulary >= least && vocabulary <= kMostTokens, "recall",
                      "the vocabulary must be from the least of the variant to 2^20: "
                      "vocabulary and least",
                      vocabulary, least);
}

// Of the rows with k keys, or of all for k = 0.
Mean recalled(const Answered& answered, int64_t k) {
  Mean mean;
  for (const Score& score : answered.scores)
    if (score.counted > 0 && (k == 0 || score.counted == k))
      mean.add(static_cast<double>(score.right) / static_cast<double>(score.counted));
  return mean;
}

}  // namespace

KeysByLength keys_by_length(std::string_view text) {
  KeysByLength keys;
  const std::vector<std::string> items = split(text, ',');
  for (const std::string& item : items) {
    const std::vector<std::string> parts = split(item, '/');
    const int64_t length = parts.size() == 1 ? 1 : number_in<int64_t>(parts.front()).value_or(0);
    const int64_t k = number_in<int64_t>(parts.back()).value_or(0);
    require<ValueError>(
        parts.size() <= 2 && length >= 1 && k >= 1 && items.size() <= kMostNumbers, "keys",
        "must be a number from 1, or at most 64 of LENGTH/KEYS such as 64/4,128/8", text);
    keys[length].push_back(k);
  }
  return keys;
}

const std::vector<int64_t>& Recall::keys_at(int64_t length) const {
  const auto above = keys_.upper_bound(length);
  require<ValueError>(above != keys_.begin(), "keys",
                      "there must be a number for the length or a shorter one", length);
  const std::vector<int64_t>& numbers = std::prev(above)->second;
  for (const int64_t k : numbers) check(length, k);
  return numbers;
}

void Recall::Row::ask(int64_t place, int32_t token, int32_t answer) const {
  tokens[place] = token;
  targets[place] = answer;
  mask[place] = 1;
}

Batch Recall::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  check_batch("recall", B, length);
  const std::vector<int64_t>& numbers = keys_at(length);
  const int64_t T = tokens_of(length, std::ranges::max(numbers));
  check_batch("recall", B, T);
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T}), targets = tokens;
  std::vector<real> mask = host_vector<real>({B, T});
  for (int64_t b = 0; b < B; ++b) {
    const auto row = [&](auto& all) { return std::span(all).subspan(b * T, T); };
    write({row(tokens), row(targets), row(mask)}, length, numbers[b % numbers.size()],
          Draws(rng, static_cast<uint64_t>(b) * static_cast<uint64_t>(length) * kWordsOfPlace));
  }
  return {.tokens = IntTensor(context, {B, T}, tokens),
          .targets = IntTensor(context, {B, T}, targets),
          .mask = Tensor(context, {B, T}, mask)};
}

std::vector<Metric> Recall::metrics() const {
  std::vector<Metric> metrics = {
      {.name = "recalled",
       .over = [](const Answered& answered) { return recalled(answered, 0); },
       .caption = "share of keys right"},
      {.name = "whole_sequences", .over = whole_sequences}};
  std::set<int64_t> all;
  bool by_turns = false;
  for (const auto& [length, numbers] : keys_) {
    all.insert(numbers.begin(), numbers.end());
    by_turns = by_turns || numbers.size() > 1;
  }
  if (!by_turns) return metrics;
  for (const int64_t k : all)
    metrics.push_back({.name = "recalled_" + std::to_string(k),
                       .over = [k](const Answered& answered) { return recalled(answered, k); }});
  return metrics;
}

Mqar::Mqar(const Options& options)
    : Recall(options.vocabulary, options.keys), filler_(options.filler), power_(options.power) {
  check_vocabulary(options.vocabulary, 4);
  for (const auto& [length, numbers] : options.keys)
    for (const int64_t k : numbers)
      require<ValueError>(k < options.vocabulary / 2, "recall",
                          "keys must be fewer than half of the vocabulary: keys and vocabulary", k,
                          options.vocabulary);
  require<ValueError>(power_ >= 0 && power_ <= 8, "recall", "power must be 0 to 8", power_);
}

void Mqar::check(int64_t length, int64_t k) const {
  require<ValueError>(k <= length / 4, "recall",
                      "4 times the keys must be at most the length: keys and length", k, length);
}

void Mqar::write(const Row& row, int64_t length, int64_t k, Draws draws) const {
  const int64_t half = vocabulary() / 2, begin = 2 * k;
  const std::vector<int32_t> keys = distinct(draws, k, 1, half - 1),
                             values = distinct(draws, k, half, vocabulary() - half);
  const std::vector<int64_t> slot = slots(draws, k, (length - begin) / 2, power_);
  for (int64_t i = 0; i < k; ++i) {
    row.tokens[2 * i] = keys[i];
    row.tokens[2 * i + 1] = values[i];
    row.ask(begin + 2 * slot[i], keys[i], values[i]);
  }
  if (filler_ == Filler::zeros) return;
  for (int64_t t = begin; t < length; ++t)
    if (row.mask[t] == 0) row.tokens[t] = static_cast<int32_t>(draws.below(vocabulary()));
}

SelectiveCopying::SelectiveCopying(int64_t vocabulary, KeysByLength keys)
    : Recall(vocabulary, std::move(keys)) {
  check_vocabulary(vocabulary, 3);
}

void SelectiveCopying::check(int64_t length, int64_t k) const {
  require<ValueError>(k <= length, "recall",
                      "data tokens must be at most as many as places: data tokens and places", k,
                      length);
}

void SelectiveCopying::write(const Row& row, int64_t length, int64_t k, Draws draws) const {
  std::vector<int32_t> places = distinct(draws, k, 0, length);
  std::ranges::sort(places);
  const auto recall = static_cast<int32_t>(vocabulary() - 1);
  for (int64_t i = 0; i < k; ++i) {
    const auto datum = static_cast<int32_t>(1 + draws.below(vocabulary() - 2));
    row.tokens[places[i]] = datum;
    row.ask(length + i, recall, datum);
  }
}

}  // namespace fprnn
