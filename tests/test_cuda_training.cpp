// Whole trainings on the GPU: the same bytes each time, recorded or not, and what the CPU finds.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <cmath>

#include "close.h"
#include "named_model.h"
#include "needs.h"
#include "twins.h"
#include "wide_cases.h"

namespace fprnn::tests {

namespace {

// A small state tracker on the words of S3, of one fixed-point layer or of a model of the registry.
struct Tracker {
  Context context = test_context();
  WordProblem task{group_named("S3")};
  TrainOptions options{
      .steps = 1000, .batch_size = 8, .length = 6, .lr = 1e-2, .state_dropout = 0.2, .seed = 4};
  std::unique_ptr<SequenceModel> model;

  explicit Tracker(const ModelKind& kind) {
    options.state_dropout = 0;
    Rng rng = initial_stream(4);
    model =
        named_model({{"model", kind.name}, {"d_model", "16"}, {"layers", "2"}, {"headdim", "8"}},
                    task.vocabulary(), {context, rng});
  }

  explicit Tracker(const Case& entry = wide_mamba({16, 8, MixerKind::householder, 2})) {
    Rng rng = initial_stream(4);
    const auto make_layer = [&](Module& parent, const std::string&, const Init& init) {
      auto layer = entry.make(parent, init);
      layer->solver.unconverged = Unconverged::accept;
      if (!layer->has_states()) options.state_dropout = 0;
      return layer;
    };
    model = std::make_unique<SequenceModel>(
        Init{context, rng},
        SequenceModelOptions{
            .vocabulary = task.vocabulary(), .d_model = 16, .layers = 1, .make_layer = make_layer});
  }
};

// Copies of what an optimiser's next step will change.
AdamWState copy_of(const AdamWState& state) {
  AdamWState copy{.steps = state.steps};
  for (const auto& [path, mean, variance] : state.moments)
    copy.moments.push_back({path, clone(mean), clone(variance)});
  return copy;
}

}  // namespace

// The first without a graph, the second recorded, the others replayed.
TEST_CASE("cuda: a training step done a hundred times gives the same bytes each time" *
          needs_gpu()) {
  Tracker tracker;
  Training training(*tracker.model, tracker.task, tracker.context, tracker.options);
  for (int step = 0; step < 3; ++step) training.step();
  const Values weights = values_of(*tracker.model);
  const AdamWState state = copy_of(training.optimiser().state());
  Values expected;
  double loss = 0, norm = 0;
  Training again(*tracker.model, tracker.task, tracker.context, tracker.options);
  for (int repeat = 0; repeat < 100; ++repeat) {
    for (size_t i = 0; i < weights.size(); ++i)
      assign(tracker.model->parameters()[i].parameter->value, weights[i]);
    again.optimiser().restore(state);
    again.go_on(3, 0, 0);
    const StepMetrics& metrics = again.step();
    const Values values = values_of(*tracker.model);
    if (repeat == 0) expected = values, loss = metrics.loss, norm = metrics.grad_norm;
    REQUIRE(same_bits(values, expected));
    REQUIRE(metrics.loss == loss);
    REQUIRE(metrics.grad_norm == norm);
  }
  CHECK(!same_bits(expected, weights));
}

namespace {

// Twelve steps of one Training, which records its second step, beside a Training made anew for each, which
// never does.
void check_recorded(Tracker recorded, Tracker plain, bool repeats) {
  Training whole(*recorded.model, recorded.task, recorded.context, recorded.options);
  AdamWState state;
  for (int64_t step = 0; step < 12; ++step) {
    Training one(*plain.model, plain.task, plain.context, plain.options);
    if (step > 0) one.optimiser().restore(state);
    one.go_on(step, 0, 0);
    CHECK(one.step().loss == whole.step().loss);
    CHECK(one.last().iterations_mean == whole.last().iterations_mean);
    CHECK(one.last().accuracy == whole.last().accuracy);
    CHECK(whole.recorded() == (repeats && step > 0));
    CHECK(!one.recorded());
    state = copy_of(one.optimiser().state());
    CHECK(same_bits(values_of(*plain.model), values_of(*recorded.model)));
  }
}

}  // namespace

TEST_CASE("cuda: a training that is recorded gives the bytes of one that is not" * needs_gpu()) {
  const Width low_rank{16, 8, MixerKind::householder, 2}, full{16, 8, MixerKind::kronecker, 1};
  for (const Case& entry : {wide_mamba(low_rank), wide_mamba(full), wide_mamba2(low_rank),
                            wide_delta(low_rank), wide_rnn(low_rank), wide_rnn(full)}) {
    INFO(entry.name);
    check_recorded(Tracker(entry), Tracker(entry), true);
  }
}

TEST_CASE("cuda: what a recorded step drops is drawn anew, at a rate of its own" * needs_gpu()) {
  const Width width{16, 8, MixerKind::householder, 2};
  const auto dropping = [&] {
    Tracker tracker(wide_mamba(width));
    tracker.options.state_dropout = {0, 0.9};
    tracker.options.steps = 12;
    tracker.options.dropout = 0.2;
    tracker.options.accumulate = 2;
    return tracker;
  };
  check_recorded(dropping(), dropping(), true);
}

// All but those whose steps wait for their own numbers: ACT for how often it repeated its cell, DEQ for how far its
// iteration is.
TEST_CASE("cuda: every model of the registry is recorded that does not wait for its numbers" *
          needs_gpu()) {
  for (const ModelKind& kind : kinds_here()) {
    INFO(kind.name);
    check_recorded(Tracker(kind), Tracker(kind), kind.name != "act" && kind.name != "deq");
  }
}

// From the same weights, and with an eps that makes no sign of a gradient that is rounding alone: later
// steps would let rounding grow.
TEST_CASE("cuda: a training step is the CPU's" * needs_gpu()) {
  const Case entry = wide_mamba({16, 8, MixerKind::householder, 2});
  Twins twins(host_context(), test_context(), entry, {8, 6, 16});
  const auto step = [](Built& built) {
    AdamW optimiser(built.layer->parameters(), {.eps = 1e-3});
    Tape tape(built.context);
    tape.backward(mean(square(built.layer->forward(tape.constant(built.u)))));
    return optimiser.step(1e-2, 0.1).gradient_norm;
  };
  const double here = step(twins.here), there = step(twins.there);
  CHECK(std::abs(there - here) <= kSameGradient * here);
  const Values x = values_of(*twins.there.layer), y = values_of(*twins.here.layer);
  for (size_t i = 0; i < y.size(); ++i)
    check_close(fmt::format("parameter {}", i), x[i], y[i], kSame);
}

// As on the CPU, the step that failed has changed nothing.
TEST_CASE("cuda: a wrong token in the middle of a training is thrown, and training goes on" *
          needs_gpu()) {
  Tracker tracker;
  struct Wrong : WordProblem {
    using WordProblem::WordProblem;
    mutable int64_t batches = 0;
    Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override {
      Batch batch = WordProblem::sample(context, rng, B, length);
      if (++batches == 5) {
        std::vector<int32_t> tokens = batch.tokens.to_vector();
        tokens[1] = 1000;
        batch.tokens = IntTensor(context, batch.tokens.shape(), tokens);
      }
      return batch;
    }
  };
  const Wrong task(group_named("S3"));
  Training training(*tracker.model, task, tracker.context, tracker.options);
  for (int step = 0; step < 4; ++step) training.step();
  const Values before = values_of(*tracker.model);
  CHECK_THROWS_AS(training.step(), ValueError);
  CHECK(training.last().step == 4);
  CHECK(same_bits(values_of(*tracker.model), before));
  for (int step = 0; step < 3; ++step) CHECK(std::isfinite(training.step().loss));
  CHECK(training.last().step == 7);
}

}  // namespace fprnn::tests
