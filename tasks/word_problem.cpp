#include <fprnn/core/vector.h>
#include <fprnn/tasks/draws.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>

namespace fprnn {

WordProblem::WordProblem(Group group, const WordProblemOptions& options)
    : group_(std::move(group)),
      alphabet_(alphabet_named(options.alphabet, group_)),
      shortest_(options.shortest),
      supervise_(options.supervise) {
  require<ValueError>(shortest_ >= 0, "shortest",
                      "must be 0, for the trained length alone, or a length from 1", shortest_);
  if (options.hold_out != "none") hold_out_.emplace(options.hold_out, group_, alphabet_.elements);
}

void WordProblem::check_training(int64_t length) const {
  require<ValueError>(shortest_ <= length, "shortest",
                      "must be at most the trained length: shortest and length", shortest_, length);
}

Batch WordProblem::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  check_training(length);
  return batch(context, rng, B, length,
               {.hold_out = hold_out_ ? &*hold_out_ : nullptr,
                .shortest = shortest_,
                .supervise = supervise_});
}

Batch WordProblem::examination(const Context& context, const Rng& rng, int64_t B,
                               int64_t length) const {
  return batch(context, rng, B, length, {});
}

// A row reads a word for each element, and before them one for its length where that is drawn.
Batch WordProblem::batch(const Context& context, const Rng& rng, int64_t B, int64_t length,
                         const Form& form) const {
  check_batch("word_problem", B, length);
  const int64_t spacing = alphabet_.spacing;
  check_batch("word_problem", B * spacing, length);
  const int64_t T = spacing * length + 1, words = length + (form.shortest > 0 ? 1 : 0);
  const int32_t bos = group_.order, blank = bos + 1;
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T}), targets = tokens;
  std::vector<real> mask = host_vector<real>({B, T});
  std::ranges::fill(tokens, bos);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t row = b * T;
    Draws draws(rng, static_cast<uint64_t>(b * words));
    const int64_t last =
        form.shortest > 0 ? form.shortest + draws.below(length - form.shortest + 1) : length;
    targets[row] = bos;
    if (form.supervise == Supervise::all) mask[row] = 1;
    WordPlace place{.state = group_.identity};
    for (int64_t t = 1; t <= last; ++t) {
      const std::vector<int>& choices =
          form.hold_out == nullptr ? alphabet_.elements : form.hold_out->choices(place);
      const int x = choices[draws.below(std::ssize(choices))];
      const int64_t read = row + spacing * (t - 1) + 1, answer = row + spacing * t;
      tokens[read] = x;
      std::fill(tokens.begin() + read + 1, tokens.begin() + answer + 1, blank);
      place = {x, group_.product(place.state, x)};
      targets[answer] = place.state;
      mask[answer] = form.supervise == Supervise::all || t == last ? 1 : 0;
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
  if (supervise_ == Supervise::last) {
    const auto last = std::ranges::find(metrics, "last_token", &Metric::name);
    std::rotate(metrics.begin(), last, last + 1);
  }
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
