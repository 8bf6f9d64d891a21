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
    result.wilson = wilson_interval(means.front().value(), means.front().weight);
}

// Whether what it answers at a place depends on how long the sequence goes on.
bool looks_ahead(const SequenceModel& model) {
  return std::ranges::any_of(fixed_points(model), [](const ImplicitLayer* layer) {
    return layer->solver.solver == Solver::patience;
  });
}

// Sequences of the length, cut into pieces of a bounded number of tokens.
Reading in_pieces(const Context& context, int64_t length, const Batch& all) {
  const int64_t sequences = all.tokens.size(0);
  const int64_t piece = std::max<int64_t>(1, tokens_at_once(context) / all.tokens.size(1));
  return {.length = length,
          .sequences = sequences,
          .batches = (sequences + piece - 1) / piece,
          .batch = [=](const Context&, int64_t number) {
            return rows(all, number * piece, std::min((number + 1) * piece, sequences));
          }};
}

// Logits, with the state carried where the batch goes on.
Tensor logits_of(SequenceModel& model, const Context& context, const Batch& batch, bool carries,
                 SequenceModel::State& state) {
  NoGrad tape(context);
  if (batch.starts) state.clear();
  const IntTensor tokens = batch.tokens.on(context);
  return (carries ? model.forward(tape, tokens, state) : model.forward(tape, tokens)).value();
}

// What is to be said of a reading.
struct Asked {
  std::vector<Metric> metrics;
  std::optional<int32_t> end_of_answer = {};  // decodes answers
  Curves* curves = nullptr;
};
Asked asked_by(const Task& task, Curves* curves = nullptr) {
  return {metrics_of(task), task.end_of_answer(), curves};
}

LengthResult read(SequenceModel& model, const Context& context, const Reading& reading,
                  const Asked& asked) {
  const Context host = Context::cpu({.threads = context.threads()});
  LengthResult result{.length = reading.length, .sequences = reading.sequences};
  const std::vector<Metric>& metrics = asked.metrics;
  std::vector<Mean> means(metrics.size());
  SolveTally solves;
  SequenceModel::State state;
  forget_solves(model);
  for (int64_t number = 0; number < reading.batches; ++number) {
    const Batch batch = reading.batch(host, number);
    const Tensor logits = logits_of(model, context, batch, reading.carries, state);
    const IntTensor answers = argmax(logits);
    solves.add(solves_of(model));
    Answered answered{batch, answers, logits, scores(answers, batch)};
    if (asked.end_of_answer) {
      answered.decoded = decode(model, context, batch, *asked.end_of_answer);
      forget_solves(model);  // of single steps
    }
    for (size_t i = 0; i < metrics.size(); ++i) means[i].add(metrics[i].over(answered));
    if (asked.curves != nullptr) asked.curves->add(answers, batch);
  }
  solves.write_to(result, model);
  report(metrics, means, result);
  return result;
}

}  // namespace

LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context,
                      const Reading& reading) {
  LengthResult result;
  with_shortage_named("evaluate", reading.sequences, reading.length,
                      [&] { result = read(model, context, reading, asked_by(task)); });
  return result;
}

LengthResult evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
                      int64_t length, int64_t sequences, Curves* curves) {
  LengthResult result;
  with_shortage_named("evaluate", sequences, length, [&] {
    if (const auto text = task.reading(length)) {
      result = read(model, context, *text, asked_by(task));
      return;
    }
    const Context host = Context::cpu({.threads = context.threads()});
    const Batch all = task.examination(host, evaluation_stream(seed, length), sequences, length);
    result = read(model, context, in_pieces(context, length, all), asked_by(task, curves));
  });
  return result;
}

double validation_loss(SequenceModel& model, const Task& task, const Context& context,
                       uint64_t seed, int64_t length, int64_t sequences) {
  const std::vector<Metric> metrics = {{.name = "nats", .over = nats}};
  LengthResult result;
  with_shortage_named("validate", sequences, length, [&] {
    if (const auto text = task.validation(length)) {
      result = read(model, context, *text, {metrics});
      return;
    }
    const Context host = Context::cpu({.threads = context.threads()});
    const Batch all = task.sample(host, validation_stream(seed, length), sequences, length);
    result = read(model, context, in_pieces(context, length, all), {metrics});
  });
  return result.metrics.front().second;
}

void evaluate(SequenceModel& model, const Task& task, const Context& context, uint64_t seed,
              std::span<const int64_t> lengths, int64_t sequences, Evaluation& result) {
  const int64_t longest = std::ranges::max(lengths);
  for (const int64_t length : lengths) {
    Curves curves;
    result.lengths.push_back(evaluate(model, task, context, seed, length, sequences,
                                      length == longest ? &curves : nullptr));
    if (length == longest) result.protocols = task.protocols(curves);
  }
  // Its answers to beginnings depend on what follows.
  if (looks_ahead(model)) result.protocols = {.bands = std::move(result.protocols.bands)};
}

}  // namespace fprnn
