#include <fprnn/core/vector.h>
#include <fprnn/tasks/word_problem.h>

namespace fprnn {

WordProblem::WordProblem(Group group, const WordProblemOptions& options)
    : group_(std::move(group)), alphabet_(alphabet_named(options.alphabet, group_)) {
  if (options.hold_out != "none") hold_out_.emplace(options.hold_out, group_, alphabet_.elements);
}

Batch WordProblem::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  return batch(context, rng, B, length, hold_out_ ? &*hold_out_ : nullptr);
}

Batch WordProblem::examination(const Context& context, const Rng& rng, int64_t B,
                               int64_t length) const {
  return batch(context, rng, B, length, nullptr);
}

Batch WordProblem::batch(const Context& context, const Rng& rng, int64_t B, int64_t length,
                         const HoldOut* hold_out) const {
  check_batch("word_problem", B, length);
  const int64_t spacing = alphabet_.spacing;
  check_batch("word_problem", B * spacing, length);
  const int64_t T = spacing * length + 1;
  const int32_t bos = group_.order, blank = bos + 1;
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T}), targets = tokens;
  std::vector<real> mask = host_vector<real>({B, T});
  if (spacing > 1) std::ranges::fill(tokens, blank);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t row = b * T;
    tokens[row] = targets[row] = bos;
    mask[row] = 1;
    WordPlace place{.state = group_.identity};
    for (int64_t t = 1; t <= length; ++t) {
      const std::vector<int>& choices =
          hold_out == nullptr ? alphabet_.elements : hold_out->choices(place);
      const int x = choices[rng.below(b * length + t - 1, choices.size())];
      const int64_t answer = row + spacing * t;
      tokens[answer - spacing + 1] = x;
      place = {x, group_.product(place.state, x)};
      targets[answer] = place.state;
      mask[answer] = 1;
    }
  }
  std::vector<real> counted = mask;
  for (int64_t b = 0; b < B; ++b) counted[b * T] = 0;
  return {.tokens = IntTensor(context, {B, T}, tokens),
          .targets = IntTensor(context, {B, T}, targets),
          .mask = Tensor(context, {B, T}, mask),
          .counted = Tensor(context, {B, T}, counted)};
}

std::vector<Metric> WordProblem::metrics() const {
  std::vector<Metric> metrics = accuracies();
  if (!hold_out_) return metrics;
  metrics.push_back({.name = "held_out", .over = [this](const Answered& answered) {
                       return accuracy(answered, true);
                     }});
  metrics.push_back({.name = "not_held_out", .over = [this](const Answered& answered) {
                       return accuracy(answered, false);
                     }});
  return metrics;
}

// Where a share h of the t-th places is held out, the others count h / (1 - h) each.
Mean WordProblem::accuracy(const Answered& answered, bool held_out) const {
  const std::vector<int32_t> tokens = answered.batch.tokens.to_vector(),
                             targets = answered.batch.targets.to_vector(),
                             answers = answered.answers.to_vector();
  const int64_t T = answered.batch.tokens.size(1), spacing = alphabet_.spacing;
  Mean mean;
  for (size_t row = 0; row < tokens.size(); row += T) {
    WordPlace place{.state = group_.identity};
    for (int64_t t = 1; spacing * t < T; ++t) {
      const size_t answer = row + spacing * t;
      const int x = tokens[answer - spacing + 1];
      const double share = hold_out_->share_at(t);
      if (hold_out_->holds(place, x) == held_out)
        mean.add(answers[answer] == targets[answer] ? 1 : 0, held_out ? 1 : share / (1 - share));
      place = {x, targets[answer]};
    }
  }
  return mean;
}

Protocols WordProblem::protocols(const Curves& curves) const {
  return state_tracking_protocols(curves, group_.order);
}

}  // namespace fprnn
