#include <fprnn/tasks/evaluate.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr int64_t kTokens = int64_t{1} << 16;  // at once

template <class T>
BasicTensor<T> rows(const BasicTensor<T>& x, int64_t begin, int64_t end) {
  const BasicTensor<T> part(x.context(), x.shape().with(0, end - begin));
  std::copy_n(x.data() + begin * x.size(1), part.elements(), part.data());
  return part;
}

Batch rows(const Batch& batch, int64_t begin, int64_t end) {
  return {rows(batch.tokens, begin, end), rows(batch.targets, begin, end),
          rows(batch.mask, begin, end)};
}

}  // namespace

LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
                      int64_t length, int64_t sequences, const std::function<void()>& stop) {
  const Batch all = task.sample(context, evaluation_stream(seed, length), sequences, length);
  const int64_t piece = std::max<int64_t>(1, kTokens / all.tokens.size(1));
  LengthResult result{.length = length, .sequences = sequences};
  for (int64_t begin = 0; begin < sequences; begin += piece) {
    stop();
    const int64_t end = std::min(begin + piece, sequences);
    const double share = static_cast<double>(end - begin) / static_cast<double>(sequences);
    const Batch batch = rows(all, begin, end);
    NoGrad tape(context);
    const Accuracy accuracy = task.accuracy(model.forward(tape, batch.tokens).value(), batch);
    const Solves solves = last_solves(model);
    result.sequence_accuracy += share * accuracy.sequence;
    result.token_accuracy += share * accuracy.token;
    result.last_token_accuracy += share * accuracy.last_token;
    result.iterations_mean += share * solves.iterations_mean;
    result.iterations_max = std::max(result.iterations_max, solves.iterations_max);
    if (!(solves.residual_max <= result.residual_max)) result.residual_max = solves.residual_max;
    result.unconverged += solves.unconverged;
  }
  return result;
}

}  // namespace fprnn
