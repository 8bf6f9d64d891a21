#include <fprnn/core/vector.h>
#include <fprnn/tasks/decode.h>
#include <fprnn/tasks/run/evaluate.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

template <class T>
BasicTensor<T> rows(const BasicTensor<T>& x, int64_t begin, int64_t end) {
  const std::vector<T> all = x.to_vector();
  const int64_t width = x.size(1);
  return {x.context(), x.shape().with(0, end - begin),
          std::span(all).subspan(begin * width, (end - begin) * width)};
}

Batch rows(const Batch& batch, int64_t begin, int64_t end) {
  return {rows(batch.tokens, begin, end), rows(batch.targets, begin, end),
          rows(batch.mask, begin, end),
          batch.counted.defined() ? rows(batch.counted, begin, end) : Tensor()};
}

// Of the whole evaluation.
void report(const std::vector<Metric>& metrics, const std::vector<Mean>& means,
            LengthResult& result) {
  for (size_t i = 0; i < metrics.size(); ++i)
    result.metrics.emplace_back(metrics[i].name, value_of(metrics[i], means[i]));
  if (metrics.front().of_sequences)
    result.standard_error = standard_error(means.front().value(), means.front().weight);
}

// Whether what it answers at a place depends on how long the sequence goes on.
bool looks_ahead(const SequenceModel& model) {
  for (const Layer* layer : model.layers()) {
    const auto* fixed_point = dynamic_cast<const ImplicitLayer*>(layer);
    if (fixed_point != nullptr && fixed_point->solver.solver == Solver::patience) return true;
  }
  return false;
}

LengthResult evaluate_here(SequenceModel& model, const Task& task, const Context& context,
                           uint64_t seed, int64_t length, int64_t sequences, Curves* curves) {
  const Context host = Context::cpu({.threads = context.threads()});
  const Batch all = task.examination(host, evaluation_stream(seed, length), sequences, length);
  const int64_t piece = std::max<int64_t>(1, tokens_at_once(context) / all.tokens.size(1));
  LengthResult result{.length = length, .sequences = sequences};
  const std::vector<Metric> metrics = metrics_of(task);
  std::vector<Mean> means(metrics.size());
  forget_solves(model);
  for (int64_t begin = 0; begin < sequences; begin += piece) {
    const int64_t end = std::min(begin + piece, sequences);
    const double share = static_cast<double>(end - begin) / static_cast<double>(sequences);
    const Batch batch = rows(all, begin, end);
    NoGrad tape(context);
    const Tensor logits = model.forward(tape, batch.tokens.on(context)).value();
    const IntTensor answers = argmax(logits);
    const Solves solves = last_solves(model);
    Answered answered{batch, answers, logits, scores(answers, batch)};
    if (const auto end = task.end_of_answer()) {
      answered.decoded = decode(model, context, batch, *end);
      forget_solves(model);  // of single steps
    }
    for (size_t i = 0; i < metrics.size(); ++i) means[i].add(metrics[i].over(answered));
    if (curves != nullptr) curves->add(answers, batch);
    result.iterations_mean += share * solves.iterations_mean;
    result.iterations_max = std::max(result.iterations_max, solves.iterations_max);
    result.residual_max = larger_or_nan(solves.residual_max, result.residual_max);
    result.unconverged += solves.unconverged;
  }
  report(metrics, means, result);
  return result;
}

}  // namespace

LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
                      int64_t length, int64_t sequences, Curves* curves) {
  LengthResult result;
  with_shortage_named("evaluate", sequences, length, [&] {
    result = evaluate_here(model, task, context, seed, length, sequences, curves);
  });
  return result;
}

void evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
              std::span<const int64_t> lengths, int64_t sequences, Evaluation& result) {
  const int64_t longest = std::ranges::max(lengths);
  for (const int64_t length : lengths) {
    Curves curves;
    const bool all = length == longest && !looks_ahead(model);
    result.lengths.push_back(
        evaluate(model, task, context, seed, length, sequences, all ? &curves : nullptr));
    if (all) result.protocols = task.protocols(curves);
  }
}

}  // namespace fprnn
