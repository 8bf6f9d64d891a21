// Training and evaluation of fixed-point layers: what of the options holds for a step alone, what a training that
// goes on gives, and what an evaluation says.
#include <doctest/doctest.h>
#include <fprnn/models/fp_mamba.h>
#include <fprnn/ops/cross_entropy.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <cmath>
#include <limits>
#include <utility>

#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

std::unique_ptr<SequenceModel> fp_model(const Context& context, const Task& task) {
  Rng rng = initial_stream(3);
  return std::make_unique<SequenceModel>(
      Init{context, rng},
      SequenceModelOptions{.vocabulary = task.vocabulary(),
                           .d_model = 8,
                           .layers = 2,
                           .make_layer = [](Module& parent, std::string name, const Init& init) {
                             return std::make_unique<FpMamba>(
                                 parent, std::move(name), init,
                                 FpMambaOptions{.d_model = 8,
                                                .d_state = 4,
                                                .layers = 2,
                                                .solver = {.max_iterations = 90,
                                                           .unconverged = Unconverged::accept}});
                           }});
}

}  // namespace

TEST_CASE(
    "train: caps, drops and smoothed labels hold in training alone, and their draws are the "
    "seed's") {
  const WordProblem task(group_named("S3"));
  const TrainOptions plain{.steps = 6, .batch_size = 8, .length = 5, .seed = 2};
  const auto losses = [&](const TrainOptions& options) {
    const Context context = test_context();
    const auto model = fp_model(context, task);
    std::vector<double> losses;
    train(*model, task, context, options, [&](const StepMetrics& metrics) {
      losses.push_back(metrics.loss);
      if (options.iteration_cap.fixed > 0)
        CHECK(metrics.iterations_max <= options.iteration_cap.fixed);
      CHECK(metrics.iterations_mean > 0);
      CHECK(metrics.unconverged <= 2 * options.batch_size);
      return true;
    });
    for (Layer* layer : model->layers()) {
      const auto& fixed_point = dynamic_cast<const FixedPointLayer&>(*layer);
      CHECK(fixed_point.solver.max_iterations == 90);
    }
    return losses;
  };
  const std::vector<double> whole = losses(plain);
  TrainOptions capped = plain, drawn = plain, dropped = plain, rising = plain, thinned = plain,
               smoothed = plain;
  capped.iteration_cap.fixed = 2;
  drawn.iteration_cap = {.shape = 4, .scale = 1};
  dropped.state_dropout = 0.5;
  rising.state_dropout = {0, 0.9};
  thinned.dropout = 0.2;
  smoothed.label_smoothing = 0.1;
  CHECK(losses(rising).front() == doctest::Approx(whole.front()));
  CHECK(losses(thinned).front() != whole.front());
  for (const TrainOptions& options : {capped, drawn, dropped, rising, thinned, smoothed}) {
    const std::vector<double> once = losses(options);
    CHECK(once != whole);
    CHECK(once == losses(options));
  }
}

TEST_CASE("train: each batch of a step drops what the training of single batches would drop") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  // At a rate that changes nothing.
  const TrainOptions single{.steps = 4,
                            .batch_size = 8,
                            .length = 5,
                            .lr = 1e-30,
                            .decline = Decline::none,
                            .dropout = 0.3,
                            .state_dropout = 0.4,
                            .adamw = {.weight_decay = 0}};
  TrainOptions pairs = single;
  pairs.steps = 2;
  pairs.accumulate = 2;
  const auto losses = [&](const TrainOptions& options) {
    const auto model = fp_model(context, task);
    std::vector<double> losses;
    train(*model, task, context, options, [&](const StepMetrics& metrics) {
      losses.push_back(metrics.loss);
      return true;
    });
    return losses;
  };
  const std::vector<double> alone = losses(single), joined = losses(pairs);
  REQUIRE((alone.size() == 4 && joined.size() == 2));
  for (size_t i = 0; i < 2; ++i)
    CHECK(joined[i] == doctest::Approx((alone[2 * i] + alone[2 * i + 1]) / 2).epsilon(1e-5));
}

TEST_CASE("train: a training that goes on where another stopped ends with the same bits") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  const TrainOptions options{.steps = 10,
                             .batch_size = 8,
                             .length = 5,
                             .curriculum = {.from = 1, .share = 1},
                             .dropout = 0.1,
                             .state_dropout = {0.3, 0.6}};
  const auto whole = fp_model(context, task);
  train(*whole, task, context, options, [](const StepMetrics&) { return true; });

  const auto first = fp_model(context, task), second = fp_model(context, task);
  Training before(*first, task, context, options), after(*second, task, context, options);
  for (int step = 0; step < 4; ++step) before.step();
  for (size_t i = 0; i < first->parameters().size(); ++i)
    second->parameters()[i].parameter->value = clone(first->parameters()[i].parameter->value);
  after.optimiser().restore(before.optimiser().state());
  after.go_on(4, 0, 1.5);
  while (!after.finished()) after.step();
  CHECK(after.last().step == 10);
  CHECK(after.last().seconds > 1.5);
  CHECK(same_bits(values_of(*whole), values_of(*second)));
}

TEST_CASE("train: an evaluation does not depend on its pieces and never meets training") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  const auto model = fp_model(context, task);
  const int64_t sequences = on_gpu() ? 400 : 100;  // two pieces
  const LengthResult result = evaluate(*model, task, context, 1, 700, sequences);
  CHECK(result.sequences == sequences);
  const Batch batch = task.sample(context, evaluation_stream(1, 700), sequences, 700);
  NoGrad tape(context);
  const Tensor logits = model->forward(tape, batch.tokens).value();
  const IntTensor answers = argmax(logits);
  const Answered answered{batch, answers, logits, scores(answers, batch)};
  CHECK(result.metric("whole_sequences") == whole_sequences(answered).value());
  CHECK(result.metric("tokens") == tokens(answered).value());
  CHECK(result.metric("last_token") == last_token(answered).value());
  CHECK(result.metric("prefix") == doctest::Approx(prefix(answered).value()).epsilon(1e-12));
  CHECK(result.metrics.size() == 4);
  CHECK(result.wilson == wilson_interval(result.metrics.front().second, sequences));
  CHECK(result.iterations_mean == doctest::Approx(last_solves(*model).iterations_mean));
  for (int64_t step = 0; step < 50; ++step)
    CHECK(training_stream(1, step).stream != evaluation_stream(1, step).stream);
}

TEST_CASE("train: where memory ends, the message says for what, and the last step is whole") {
  const WordProblem task(group_named("S3"));
  const Context context = device_context({.threads = 1, .byte_limit = 40'000'000});
  const auto model = fp_model(context, task);
  check_refused<MemoryError>("100, 70000",
                             [&] { evaluate(*model, task, context, 1, 70'000, 100); });
  TrainOptions options{.steps = 10, .batch_size = 50, .length = 20'000, .curriculum = {2, 0.2}};
  Training training(*model, task, context, options);
  training.step();
  const auto before = values_of(*model);
  check_refused<MemoryError>("50, 10001", [&] { training.step(); });
  CHECK(training.between_steps());
  CHECK(training.last().step == 1);
  CHECK(same_bits(values_of(*model), before));
}

// S3 with one token more, whose embedding is no number and which the first sequence alone contains.
struct OnePoisoned : Task {
  WordProblem plain{group_named("S3")};
  int64_t vocabulary() const override { return plain.vocabulary() + 1; }
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override {
    Batch batch = plain.sample(context, rng, B, length);
    std::vector<int32_t> tokens = batch.tokens.to_vector();
    tokens[1] = static_cast<int32_t>(plain.vocabulary());
    batch.tokens = IntTensor(context, batch.tokens.shape(), tokens);
    return batch;
  }
};

// A metric of the logits, and one that is finished after all batches are added.
struct Surprise : WordProblem {
  Surprise() : WordProblem(group_named("S3")) {}
  std::vector<Metric> metrics() const override {
    return {{.name = "perplexity", .over = nats, .finish = [](double x) { return std::exp(x); }},
            {.name = "nats", .over = nats},
            {.name = "tokens", .over = tokens}};
  }
};

TEST_CASE("train: a task's own metrics are evaluated in its order, over pieces of any size") {
  const Context context = test_context();
  const Surprise task;
  const auto model = fp_model(context, task);
  const int64_t sequences = on_gpu() ? 400 : 100;  // two pieces
  const LengthResult result = evaluate(*model, task, context, 1, 700, sequences);
  REQUIRE(result.metrics.size() == 3);
  CHECK(result.metrics[0].first == "perplexity");
  CHECK(result.wilson == Interval());
  const Batch batch = task.sample(context, evaluation_stream(1, 700), sequences, 700);
  NoGrad tape(context);
  const double loss =
      masked_cross_entropy(model->forward(tape, batch.tokens), batch.targets, batch.mask)
          .value()
          .to_vector()
          .front();
  CHECK(result.metric("nats") == doctest::Approx(loss).epsilon(1e-5));
  CHECK(result.metric("perplexity") == doctest::Approx(std::exp(loss)).epsilon(1e-4));
  CHECK(std::isnan(result.metric("whole_sequences")));
}

TEST_CASE("train: a sequence that is no number shows in the report, whatever comes after it") {
  const Context context = test_context();
  const OnePoisoned task;
  const auto model = fp_model(context, task);
  const Tensor& embedding = model->parameter("embedding.weight").value;
  exchange_element(embedding, embedding.elements() - 1, std::numeric_limits<real>::quiet_NaN());
  for (Layer* layer : model->layers())
    dynamic_cast<FixedPointLayer&>(*layer).solver.max_iterations = 2;

  const int64_t sequences = on_gpu() ? 400 : 100;  // two pieces, the first with the NaN
  const LengthResult result = evaluate(*model, task, context, 1, 700, sequences);
  CHECK(std::isnan(result.residual_max));

  // Of two layers the first.
  NoGrad tape(context);
  const Tensor sound = random(context, {1, 3, 8}, 1);
  const Tensor broken = full(context, {1, 3, 8}, std::numeric_limits<real>::quiet_NaN());
  model->layers()[0]->forward(tape.constant(broken));
  model->layers()[1]->forward(tape.constant(sound));
  CHECK(std::isnan(last_solves(*model).residual_max));
  model->layers()[0]->forward(tape.constant(sound));
  CHECK(last_solves(*model).residual_max >= 0);
}

TEST_CASE("solves: iterations are counted over calls, each layer by itself") {
  const Context context = test_context();
  const auto report = [&](std::vector<int32_t> iterations, std::vector<real> residuals) {
    const auto B = static_cast<int64_t>(residuals.size());
    return SolveReport{.residual = Tensor(context, {B}, residuals),
                       .iterations = IntTensor(context, {B}, iterations),
                       .tolerance = real(0.5)};
  };
  const real nan = std::numeric_limits<real>::quiet_NaN();
  const WordProblem task(group_named("S3"));
  const auto model = fp_model(context, task);
  evaluate(*model, task, context, 1, 5, 2);  // so that its layers have reports
  SolveTally tally;
  tally.add(std::vector{report({9, 1, 2}, {0, 1, 0}), report({5, 5, 5}, {0, 0, 0}),
                        report({2}, {nan}), report({7}, {0.25})},
            2);
  StepMetrics metrics;
  tally.write_to(metrics, *model);
  const auto is = [](const NamedValues& values, double first, double second) {
    CHECK(values == NamedValues{{"0", first}, {"1", second}});
  };
  is(metrics.layers.mean, 3.5, 5.5);
  is(metrics.layers.median, 2, 5);
  is(metrics.layers.max, 9, 7);
  is(metrics.layers.unconverged, 2, 0);
  CHECK(metrics.iterations_mean == 4.5);
  CHECK(metrics.iterations_max == 9);
  CHECK(std::isnan(metrics.residual_max));
  CHECK(metrics.unconverged == 2);
  tally.add(std::vector{report({4, 1}, {0, 0}), report({1, 1}, {0, 0})});
  is(tally.by_layer(*model).median, 2, 5);
  tally.add(std::vector{report({3, 3}, {0, 0}), report({1, 1}, {0, 0})});
  is(tally.by_layer(*model).median, 2.5, 3);
  CHECK(SolveTally().total().iterations_max == 0);
}

TEST_CASE("evaluate: each layer's iterations are those of its sequences") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  const auto model = fp_model(context, task);
  const LengthResult result = evaluate(*model, task, context, 1, 5, 9);
  for (size_t i = 0; i < 2; ++i) {
    const auto& layer = dynamic_cast<const FixedPointLayer&>(*model->layers()[i]);
    std::vector<int64_t> iterations = layer.report().iterations;
    REQUIRE(iterations.size() == 9);
    std::ranges::sort(iterations);
    CHECK(result.layers.median[i].second == static_cast<double>(iterations[4]));
    CHECK(result.layers.max[i].second == static_cast<double>(iterations[8]));
    CHECK(result.layers.mean[i].second == doctest::Approx(layer.report().mean_iterations()));
    CHECK(result.layers.unconverged[i].second == static_cast<double>(layer.report().unconverged()));
  }
}

TEST_CASE("validation: of a task without a text, sequences as training's that none else has") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"), {.shortest = 2, .supervise = Supervise::last});
  const auto model = fp_model(context, task);
  const auto loss_of = [&](const Batch& batch) {
    NoGrad tape(context);
    const Var logits = model->forward(tape, batch.tokens);
    return masked_cross_entropy(logits, batch.targets, batch.mask).value().to_vector().front();
  };
  const auto loss_on = [&](const Rng& stream) {
    return loss_of(task.sample(context, stream, 9, 5));
  };
  const double loss = validation_loss(*model, task, context, 1, 5, 9);
  CHECK(loss == doctest::Approx(loss_on(validation_stream(1, 5))).epsilon(1e-5));
  for (const Rng& other : {evaluation_stream(1, 5), validation_stream(2, 5), training_stream(1, 5)})
    CHECK(std::abs(loss - loss_on(other)) > 1e-5);
  CHECK(std::abs(loss - loss_of(task.examination(context, validation_stream(1, 5), 9, 5))) > 1e-5);
}

TEST_CASE("train: each layer's iterations are logged") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  for (const int64_t accumulate : {1, 3}) {
    const TrainOptions options{
        .steps = 2, .batch_size = 4, .accumulate = accumulate, .length = 5, .seed = 2};
    const auto model = fp_model(context, task);
    train(*model, task, context, options, [&](const StepMetrics& metrics) {
      REQUIRE(metrics.layers.mean.size() == 2);
      const auto &first = metrics.layers.mean[0], &second = metrics.layers.mean[1];
      CHECK((first.first == "0" && second.first == "1"));
      CHECK((first.second + second.second) / 2 == doctest::Approx(metrics.iterations_mean));
      CHECK(step_metrics_from_json(to_json(metrics), "") == metrics);
      return true;
    });
  }
  // Of a layer without fixed points there is none.
  const auto plain = mamba_model(context, initial_stream(1), task.vocabulary(), 2, {.d_model = 8});
  train(*plain, task, context, {.steps = 1, .batch_size = 4, .length = 5},
        [&](const StepMetrics& metrics) {
          CHECK(metrics.layers == LayerSolves{});
          CHECK(to_json(metrics).find("layer_") == std::string::npos);
          return true;
        });
}

}  // namespace fprnn::tests
