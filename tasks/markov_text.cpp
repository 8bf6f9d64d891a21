#include <fprnn/tasks/draws.h>
#include <fprnn/tasks/markov_text.h>

namespace fprnn {

namespace {

constexpr int64_t N = MarkovText::kLetters;

}  // namespace

MarkovText::MarkovText(uint64_t seed) : seed_(seed), p_(N * N * N) {
  Draws draws({.seed = seed, .stream = 0}, 0);
  for (int64_t pair = 0; pair < N * N; ++pair) {
    double sum = 0;
    for (int64_t c = 0; c < N; ++c) sum += p_[pair * N + c] = std::pow(draws.exponential(), 3);
    for (int64_t c = 0; c < N; ++c) p_[pair * N + c] /= sum;
  }
}

double MarkovText::probability(char a, char b, char c) const {
  return p_[((a - 'a') * N + (b - 'a')) * N + (c - 'a')];
}

double MarkovText::entropy_rate() const {
  // All probabilities are positive, so that this forgets where it began, in a few steps.
  constexpr int kSteps = 1000;
  std::vector<double> pi(N * N, 1.0 / (N * N));
  for (int step = 0; step < kSteps; ++step) {
    std::vector<double> next(N * N);
    for (int64_t pair = 0; pair < N * N; ++pair)
      for (int64_t c = 0; c < N; ++c) next[pair % N * N + c] += pi[pair] * p_[pair * N + c];
    pi = std::move(next);
  }
  double bits = 0;
  for (int64_t pair = 0; pair < N * N; ++pair)
    for (int64_t c = 0; c < N; ++c) {
      const double p = p_[pair * N + c];
      if (p > 0) bits -= pi[pair] * p * std::log2(p);
    }
  return bits;
}

std::string MarkovText::bytes(int64_t count) const {
  const Rng rng{.seed = seed_, .stream = 1};
  std::string text;
  text.reserve(count);
  int64_t pair = 0;
  for (int64_t i = 0; i < count; ++i) {
    double left = (rng.bits(i) + 0.5) * 0x1p-32;
    int64_t c = 0;
    while (c < N - 1 && left >= p_[pair * N + c]) left -= p_[pair * N + c++];
    text += static_cast<char>('a' + c);
    pair = pair % N * N + c;
  }
  return text;
}

}  // namespace fprnn
