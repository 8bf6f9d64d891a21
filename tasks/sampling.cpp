#include <fprnn/core/rng.h>
#include <fprnn/models/decoder.h>
#include <fprnn/tasks/sampling.h>
#include <fprnn/tasks/text.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fprnn {

namespace {

constexpr int64_t kMostTokens = 1 << 24;
constexpr int64_t kPromptAtOnce = 1 << 12;  // tokens

// The logits after the last of the tokens.
std::vector<real> read_on(SequenceModel& model, const Context& context,
                          const std::vector<int32_t>& tokens, SequenceModel::State& state) {
  std::vector<real> last;
  const auto count = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < count; begin += kPromptAtOnce) {
    const auto part = std::span(tokens).subspan(begin, std::min(kPromptAtOnce, count - begin));
    NoGrad tape(context);
    const IntTensor chunk(context, {1, static_cast<int64_t>(part.size())}, part);
    last = model.forward(tape, chunk, state).value().to_vector();
    last.erase(last.begin(), last.end() - Text::kVocabulary);
  }
  return last;
}

int digit_of(char c) {
  const std::string_view digits = "0123456789abcdef";
  const size_t at = digits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
  return at == digits.npos ? -1 : static_cast<int>(at);
}

}  // namespace

const SamplingOptions& check(const SamplingOptions& options) {
  require<ValueError>(options.tokens >= 0 && options.tokens <= kMostTokens, "sample",
                      "there must be 0 to 2^24 tokens", options.tokens);
  require<ValueError>(options.temperature >= 0 && std::isfinite(options.temperature), "temperature",
                      "must be finite and not negative", options.temperature);
  require<ValueError>(options.top_k >= 0, "top_k", "must not be negative", options.top_k);
  require<ValueError>(options.top_p >= 0 && options.top_p <= 1, "top_p", "must be in [0, 1]",
                      options.top_p);
  require<ValueError>(std::ranges::find(options.stops, "") == options.stops.end(), "stop",
                      "a text that stops must not be empty");
  return options;
}

int32_t pick(std::span<const real> logits, const SamplingOptions& options, double number) {
  require<Error>(std::ranges::all_of(logits, [](real x) { return std::isfinite(x); }), "sample",
                 "logits must be finite");
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater(), [&](int32_t id) { return logits[id]; });
  if (options.temperature == 0) return order.front();
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  std::vector<double> sums;  // of exp(logit / temperature) so far, over that of the first
  for (const int32_t id : order) {
    const double below = double(logits[id]) - double(logits[order.front()]);
    sums.push_back((sums.empty() ? 0 : sums.back()) + std::exp(below / options.temperature));
  }
  // The first sum that reaches the share; the last one if rounding keeps it out of reach.
  const auto reach = [](const std::vector<double>& of, double share) {
    const auto found = std::ranges::lower_bound(of, share * of.back());
    return std::min<size_t>(found - of.begin(), of.size() - 1);
  };
  sums.resize(reach(sums, options.top_p) + 1);
  const auto drawn = std::ranges::upper_bound(sums, number * sums.back());
  return order[std::min<size_t>(drawn - sums.begin(), sums.size() - 1)];
}

std::string sample_text(SequenceModel& model, const Context& context, std::string_view prompt,
                        const SamplingOptions& options, const Rng& rng) {
  check(options);
  std::vector<int32_t> tokens = {Text::kBorder};
  for (const char byte : prompt) tokens.push_back(static_cast<unsigned char>(byte));
  SequenceModel::State state;
  std::vector<real> logits = read_on(model, context, tokens, state);
  Decoder decoder(model);
  std::string text;
  for (int64_t i = 0; i < options.tokens; ++i) {
    const int32_t token = pick(logits, options, rng.bits(i) * 0x1p-32);
    if (token == Text::kBorder) break;
    text += static_cast<char>(token);
    for (const std::string& stop : options.stops)
      if (text.ends_with(stop)) return text.substr(0, text.size() - stop.size());
    logits = decoder.step(state, IntTensor(context, {1}, std::vector{token})).to_vector();
  }
  return text;
}

std::vector<std::string> stops_of(std::string_view text) {
  std::vector<std::string> stops;
  if (text.empty()) return stops;
  stops.emplace_back();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '|') {
      stops.emplace_back();
      continue;
    }
    if (text[i] != '\\') {
      stops.back() += text[i];
      continue;
    }
    const char what = ++i < text.size() ? text[i] : '\0';
    constexpr std::string_view kNames = "ntr\\|", kBytes = "\n\t\r\\|";
    const size_t at = kNames.find(what);
    const int high = i + 2 < text.size() ? digit_of(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? digit_of(text[i + 2]) : -1;
    const bool is_byte = what == 'x' && high >= 0 && low >= 0;
    require<ValueError>(at != kNames.npos || is_byte, "stop",
                        "after a backslash must stand n, t, r, \\, | or x and two digits", text);
    stops.back() += is_byte ? static_cast<char>(high * 16 + low) : kBytes[at];
    if (is_byte) i += 2;
  }
  return stops;
}

}  // namespace fprnn
