#include <fprnn/core/vector.h>
#include <fprnn/tasks/word_problem.h>

namespace fprnn {

Batch WordProblem::sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const {
  check_batch("word_problem", B, length);
  const int64_t T = length + 1;
  const int32_t bos = group_.order;
  std::vector<int32_t> tokens = host_vector<int32_t>({B, T}),
                       targets = host_vector<int32_t>({B, T});
  std::vector<real> counted(tokens.size(), 1);
  for (int64_t b = 0; b < B; ++b) {
    counted[b * T] = 0;
    tokens[b * T] = targets[b * T] = bos;
    int state = group_.identity;
    for (int64_t t = 1; t < T; ++t) {
      const auto token = static_cast<int32_t>(rng.below(b * length + t - 1, group_.order));
      tokens[b * T + t] = token;
      targets[b * T + t] = state = group_.product(state, token);
    }
  }
  return {.tokens = IntTensor(context, {B, T}, tokens),
          .targets = IntTensor(context, {B, T}, targets),
          .mask = full(context, {B, T}, 1),
          .counted = Tensor(context, {B, T}, counted)};
}

}  // namespace fprnn
