#include <fprnn/core/vector.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

Batch WordProblem::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  require<ValueError>(B >= 1 && length >= 1, "word_problem", "batch and length must be at least 1",
                      B, length);
  const int64_t T = length + 1;
  const int32_t bos = group_.order;
  Batch batch{IntTensor(context, {B, T}), IntTensor(context, {B, T}), full(context, {B, T}, 1)};
  for (int64_t b = 0; b < B; ++b) {
    int32_t* tokens = batch.tokens.data() + b * T;
    int32_t* targets = batch.targets.data() + b * T;
    tokens[0] = targets[0] = bos;
    int state = group_.identity;
    for (int64_t t = 1; t < T; ++t) {
      tokens[t] = static_cast<int32_t>(rng.below(b * length + t - 1, group_.order));
      targets[t] = state = group_.product(state, tokens[t]);
    }
  }
  return batch;
}

Accuracy WordProblem::accuracy(const Tensor& logits, const Batch& batch) const {
  return fprnn::accuracy(logits, batch.targets);
}

Accuracy accuracy(const Tensor& logits, const IntTensor& targets) {
  require(logits.shape().rank() == 3 && logits.shape().without(-1) == targets.shape() &&
              targets.elements() > 0 && targets.size(1) > 1,
          "accuracy", "logits must be (B, T, V) and targets (B, T), B >= 1 and T >= 2",
          logits.shape(), targets.shape());
  const int64_t B = targets.size(0), T = targets.size(1), V = logits.size(2);
  int64_t sequences = 0, tokens = 0, last = 0;
  for (int64_t b = 0; b < B; ++b) {
    int64_t right = 0;
    bool at_end = false;
    for (int64_t t = 1; t < T; ++t) {
      const real* row = logits.data() + (b * T + t) * V;
      const real* best = std::max_element(row, row + V);  // the first of a row of NaN, no answer
      at_end = best - row == targets.data()[b * T + t] && !std::isnan(*best);
      right += at_end;
    }
    sequences += right == T - 1;
    tokens += right;
    last += at_end;
  }
  const double count = static_cast<double>(B);
  return {sequences / count, tokens / (count * (T - 1)), last / count};
}

}  // namespace fprnn
