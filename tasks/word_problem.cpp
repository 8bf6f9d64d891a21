#include <fprnn/core/vector.h>
#include <fprnn/tasks/word_problem.h>

namespace fprnn {

Batch WordProblem::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  check_batch("word_problem", B, length);
  const int64_t T = length + 1;
  const int32_t bos = group_.order;
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T}),
                       targets = host_vector<int32_t>({B, T});
  for (int64_t b = 0; b < B; ++b) {
    tokens[b * T] = targets[b * T] = bos;
    int state = group_.identity;
    for (int64_t t = 1; t < T; ++t) {
      const auto token = static_cast<int32_t>(rng.below(b * length + t - 1, group_.order));
      tokens[b * T + t] = token;
      targets[b * T + t] = state = group_.product(state, token);
    }
  }
  return {IntTensor(context, {B, T}, tokens), IntTensor(context, {B, T}, targets),
          full(context, {B, T}, 1)};
}

Accuracy WordProblem::accuracy(const IntTensor& answers, const Batch& batch) const {
  return fprnn::accuracy(answers, batch.targets);
}

Accuracy accuracy(const IntTensor& answers, const IntTensor& targets) {
  require(answers.shape().rank() == 2 && answers.shape() == targets.shape() &&
              targets.elements() > 0 && targets.size(1) > 1,
          "accuracy", "answers and targets must be (B, T), B >= 1 and T >= 2", answers.shape(),
          targets.shape());
  const int64_t B = targets.size(0), T = targets.size(1);
  const std::vector<int32_t> given = answers.to_vector(), wanted = targets.to_vector();
  int64_t sequences = 0, tokens = 0, last = 0;
  for (int64_t b = 0; b < B; ++b) {
    int64_t right = 0;
    bool at_end = false;
    for (int64_t t = 1; t < T; ++t) {
      at_end = given[b * T + t] == wanted[b * T + t];
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
