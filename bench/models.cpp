// What every model of the registry can be measured by: here the step form.
#include "bench.h"

#include <fprnn/models/decoder.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>

namespace fprnn::bench {

namespace {

// Sequences of a length, all the same: tokens 0, 7, 14, .. of the vocabulary.
IntTensor tokens(const Context& context, const Shape& shape, int64_t vocabulary) {
  std::vector<int32_t> all = host_vector<int32_t>(shape);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(7 * i % vocabulary);
  return IntTensor(context, shape, all);
}

using State = SequenceModel::State;

// The tensors of `next` that have a place of their own size in `before`, copied to such a place.
class Places {
 public:
  explicit Places(const State& before) : places_(before) {
    for (LayerState& layer : places_)
      for (Tensor& tensor : layer)
        if (tensor.defined()) tensor = clone(tensor);
  }
  void take(const State& next) const {
    for (size_t i = 0; i < next.size(); ++i)
      for (size_t j = 0; j < std::min(next[i].size(), places_[i].size()); ++j)
        if (next[i][j].defined() && places_[i][j].defined() &&
            next[i][j].shape() == places_[i][j].shape())
          fprnn::copy(next[i][j], places_[i][j]);
  }

 private:
  State places_;
};

}  // namespace

// One more token of some sequences, one by itself, that have read others: every call goes on from the same
// state. On a GPU the state is copied to where a graph that is replayed would read it. The limit is a copy that
// moves as many bytes as the weights have: a step of one sequence reads each of them at least once.
std::vector<Result> decode(const Context& context, const Options& given) {
  const Options options = with_sizes(given, 1, 16, 512, 8);
  const int64_t vocabulary = WordProblem(group_named("A5")).vocabulary();
  Rng rng = initial_stream(0);
  const auto model = options.model->make(vocabulary, {context, rng});
  State past;
  {
    NoGrad tape(context);
    model->forward(tape, tokens(context, {options.batch, options.length}, vocabulary), past);
  }
  const IntTensor token = tokens(context, {options.batch}, vocabulary);
  const Places places(past);
  Decoder decoder(*model);
  const auto step = [&] {
    State next = past;
    decoder.step(next, token);
    if (can_capture(context)) places.take(next);
  };
  const double bytes = static_cast<double>(model->parameter_count()) * sizeof(real);
  const auto times = medians_and_copies(context, options, {step}, {bytes});
  Sizes parameters = parameters_of(options, *model->layers().front());
  parameters["layers"] = std::to_string(options.model->layers);
  parameters["weights_mb"] = std::to_string(std::llround(bytes / 1e6));
  return {{.name = "decode",
           .parameters = parameters,
           .milliseconds = times[0].milliseconds,
           .tokens_per_second = static_cast<double>(options.batch) / times[0].milliseconds * 1e3,
           .runs = options.runs,
           .limit_milliseconds = times[1].milliseconds,
           .how = times[0].how}};
}

}  // namespace fprnn::bench
