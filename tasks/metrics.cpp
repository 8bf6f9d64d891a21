#include <fprnn/core/vector.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/tasks/task.h>

#include <limits>

namespace fprnn {

void check_batch(std::string_view tag, int64_t sequences, int64_t length) {
  require<ValueError>(sequences >= 1 && length >= 1, tag, "batch and length must be at least 1",
                      sequences, length);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  require<ValueError>(length < kMost && sequences <= kMost / (length + 1), tag,
                      "a batch must have below 2^31 tokens: sequences and length", sequences,
                      length);
}

Rng training_stream(uint64_t seed, int64_t number) { return {seed, static_cast<uint64_t>(number)}; }

std::vector<Metric> metrics_of(const Task& task) {
  std::vector<Metric> metrics = task.metrics();
  require<UsageError>(!metrics.empty(), "task", "it must have one metric at least");
  return metrics;
}

void for_each_counted(const IntTensor& answers, const Batch& batch,
                      const std::function<void(const Counted& at)>& visit) {
  const Shape& shape = batch.targets.shape();
  const Tensor& counts = batch.counted.defined() ? batch.counted : batch.mask;
  require(shape.rank() == 2 && answers.shape() == shape && counts.shape() == shape, "metrics",
          "answers, targets and what counts must be (B, T)", answers.shape(), shape,
          counts.shape());
  const int64_t B = shape[0], T = shape[1];
  const std::vector<int32_t> given = answers.to_vector(), wanted = batch.targets.to_vector();
  const std::vector<real> counted = counts.to_vector();
  for (int64_t b = 0; b < B; ++b) {
    int64_t before = 0;
    for (int64_t t = 0; t < T; ++t)
      if (const int64_t i = b * T + t; counted[i] != 0)
        visit({.b = b, .t = t, .before = before++, .right = given[i] == wanted[i]});
  }
}

std::vector<Score> scores(const IntTensor& answers, const Batch& batch) {
  std::vector<Score> scores(batch.targets.size(0));
  for_each_counted(answers, batch, [&](const Counted& at) {
    Score& score = scores[at.b];
    score.last_right = at.right;
    score.last = at.t;
    if (at.right && score.before_error == at.before) ++score.before_error;
    score.right += at.right;
    score.counted = at.before + 1;
  });
  return scores;
}

double value_of(const Metric& metric, const Mean& mean) {
  return metric.finish ? metric.finish(mean.value()) : mean.value();
}

double scaled(double accuracy, int64_t answers) {
  const double chance = 1.0 / static_cast<double>(answers);
  return (accuracy - chance) / (1 - chance);
}

namespace {

// The mean of a share of each sequence that has counted positions.
template <class Share>
Mean over_sequences(const Answered& answered, const Share& share) {
  Mean mean;
  for (const Score& score : answered.scores)
    if (score.counted > 0) mean.add(share(score));
  return mean;
}

}  // namespace

Mean whole_sequences(const Answered& answered) {
  return over_sequences(answered, [](const Score& s) { return s.all_right() ? 1.0 : 0.0; });
}

Mean tokens(const Answered& answered) {
  Mean mean;
  for (const Score& score : answered.scores)
    mean.add(
        {.sum = static_cast<double>(score.right), .weight = static_cast<double>(score.counted)});
  return mean;
}

Mean last_token(const Answered& answered) {
  return over_sequences(answered, [](const Score& s) { return s.last_right ? 1.0 : 0.0; });
}

Mean prefix(const Answered& answered) {
  return over_sequences(answered, [](const Score& s) {
    return static_cast<double>(s.before_error) / static_cast<double>(s.counted);
  });
}

Mean nats(const Answered& answered) {
  Mean weight;
  for (const real w : answered.batch.mask.to_vector()) weight.add(0, w);
  if (weight.weight == 0) return {};
  const Batch batch = answered.batch.on(answered.logits.context());
  const Var loss = masked_cross_entropy(Var(answered.logits), batch.targets, batch.mask);
  return {.sum = weight.weight * loss.value().to_vector().front(), .weight = weight.weight};
}

std::vector<Metric> accuracies() {
  return {{.name = "whole_sequences",
           .over = whole_sequences,
           .caption = "whole sequences right",
           .of_sequences = true},
          {.name = "tokens", .over = tokens},
          {.name = "last_token",
           .over = last_token,
           .caption = "last tokens right",
           .of_sequences = true},
          {.name = "prefix", .over = prefix}};
}

}  // namespace fprnn
