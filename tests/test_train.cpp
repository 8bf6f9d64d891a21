// The training loop: what it asks of memory, what its bits depend on, and what it does when a step
// fails.
#include <doctest/doctest.h>
#include <fprnn/core/vector.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <cmath>
#include <limits>

#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

const MambaOptions kLayer{.d_model = 24, .d_state = 8, .layers = 2};

// A two-layer Mamba on the word problem of S3.
struct Run {
  Context context;
  WordProblem task{group_named("S3")};
  TrainOptions options{
      .steps = 20, .batch_size = 16, .length = 12, .lr = 3e-3, .warmup = 4, .seed = 5};
  std::unique_ptr<SequenceModel> model;
  std::vector<double> losses = {};

  explicit Run(const Context& context, uint64_t seed = 5)
      : context(context),
        model(mamba_model(context, initial_stream(seed), task.vocabulary(), 2, kLayer)) {
    options.seed = seed;
  }
  // Trains; after each step calls then(step), the first being 1.
  template <class Then>
  void train(const Then& then) {
    fprnn::train(*model, task, context, options, [&](const StepMetrics& metrics) {
      losses.push_back(metrics.loss);
      then(metrics.step);
      return true;
    });
  }
  void train() {
    train([](int64_t) {});
  }
};

void check_same(Run& x, Run& y) {
  CHECK(x.losses == y.losses);
  CHECK(same_bits(values_of(*x.model), values_of(*y.model)));
}

constexpr const char* kPoisoned = "layers.1.layer.x_proj.weight";

// Puts a NaN into one weight and returns what stood there.
real poison(Run& run) {
  return exchange_element(run.model->parameter(kPoisoned).value, 3,
                          std::numeric_limits<real>::quiet_NaN());
}

}  // namespace

TEST_CASE("train: steps ask the system for memory no more once they repeat") {
  Run run(test_context());
  std::vector<int64_t> allocations;
  run.options.steps = 8;
  run.train([&](int64_t) {
    allocations.push_back(run.context.memory().statistics().system_allocations);
  });
  REQUIRE(allocations.size() == 8);
  for (size_t step = 2; step < 8; ++step) CHECK(allocations[step] == allocations[1]);
}

TEST_CASE("train: losses and weights depend on the seed and not on threads") {
  Run first(context_with(1));
  first.train();
  REQUIRE(first.losses.size() == 20);
  for (const double loss : first.losses) REQUIRE(std::isfinite(loss));
  for (const int threads : {1, 2, 3}) {
    INFO(threads, " threads");
    Run again(context_with(threads));
    again.train();
    check_same(again, first);
  }
  Run other(context_with(1), 6);
  other.train();
  for (size_t step = 0; step < 20; ++step) CHECK(other.losses[step] != first.losses[step]);
}

TEST_CASE("train: metrics say what was done, and watching may stop the run") {
  Run run(test_context());
  run.options.end_lr = 1e-3;
  int64_t steps = 0;
  fprnn::train(*run.model, run.task, run.context, run.options, [&](const StepMetrics& metrics) {
    CHECK(metrics.step == ++steps);
    CHECK(metrics.lr == Schedule{3e-3, 4, 20, Decline::cosine, 1e-3}(steps - 1));
    CHECK((metrics.grad_norm > 0 && std::isfinite(metrics.grad_norm)));
    CHECK((metrics.seconds > 0 && metrics.tokens_per_second > 0));
    return steps < 7;
  });
  CHECK(steps == 7);
  for (const auto& [path, parameter] : run.model->parameters())
    CHECK(!parameter->gradient.defined());
}

TEST_CASE("train: parity of four is learned far below chance") {
  const Context context = test_context();
  const WordProblem task(group_named("Z2"));
  const MambaOptions layer{.d_model = 16, .d_state = 4};
  const auto model = mamba_model(context, initial_stream(1), task.vocabulary(), 1, layer);
  const TrainOptions options{
      .steps = 200, .batch_size = 32, .length = 4, .lr = 1e-2, .warmup = 10, .seed = 1};
  double last = 0;
  train(*model, task, context, options, [&](const StepMetrics& metrics) {
    if (metrics.step > 190) last += metrics.loss / 10;
    return true;
  });
  // BOS, one position of five, is learned at once; the rest is a coin without counting.
  const double chance = std::log(2.0) * 4 / 5;
  CHECK(last < 0.5 * chance);
}

TEST_CASE("train: a weight that is not finite is named after ten steps that changed nothing") {
  Run run(test_context());
  poison(run);
  const auto before = values_of(*run.model);
  try {
    run.train([&](int64_t) { CHECK(same_bits(values_of(*run.model), before)); });
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK_MESSAGE(text.find("'" + std::string(kPoisoned) + "'") != std::string::npos, text);
    CHECK(text.rfind("[train] ", 0) == 0);
    CHECK(text.find("got 10 and") != std::string::npos);
  }
  CHECK(run.losses.size() == 9);
  for (const double loss : run.losses) CHECK(!std::isfinite(loss));
  CHECK(same_bits(values_of(*run.model), before));
  for (const auto& [path, parameter] : run.model->parameters())
    CHECK(!parameter->gradient.defined());
}

// Ten in a row are too many, twice nine with a sound step in between are not.
TEST_CASE("train: after a few steps that are not finite training goes on") {
  Run run(test_context());
  run.options.steps = 25;
  real kept = 0;
  run.train([&](int64_t step) {
    Parameter& parameter = run.model->parameter(kPoisoned);
    if (step == 2 || step == 12) kept = poison(run);
    if (step == 11 || step == 21) exchange_element(parameter.value, 3, kept);
  });
  REQUIRE(run.losses.size() == 25);
  for (size_t i = 0; i < 25; ++i) {
    const size_t step = i + 1;
    CHECK(std::isfinite(run.losses[i]) == !((step > 2 && step <= 11) || (step > 12 && step <= 21)));
  }
  for (const auto& values : values_of(*run.model))
    for (const real value : values) REQUIRE(std::isfinite(value));
}

TEST_CASE("train: beyond the byte limit a run ends with all as it was after its last step") {
  Run free(context_with(2));
  free.options.steps = 3;
  free.train();
  const int64_t needed = free.context.memory().statistics().peak_bytes;

  // A GPU holds a step's memory twice, its graph having its own, and asks for none after step 2.
  const int64_t limit = (on_gpu() ? 4 : 2) * needed;
  const int64_t last = on_gpu() ? 1 : 3;
  Run run(context_with(2, limit));
  std::vector<Tensor> ballast;  // leaves room for half of what a step needs
  std::vector<std::vector<real>> after_last;
  const auto fill_memory = [&](int64_t step) {
    if (step != last) return;
    after_last = values_of(*run.model);
    while (run.context.memory().statistics().bytes_in_use < limit - needed / 2)
      ballast.emplace_back(run.context, Shape{needed / 32 / int64_t{sizeof(real)}});
  };
  CHECK_THROWS_AS(run.train(fill_memory), MemoryError);
  REQUIRE(static_cast<int64_t>(run.losses.size()) == last);
  CHECK(same_bits(values_of(*run.model), after_last));
  for (const auto& [path, parameter] : run.model->parameters())
    CHECK(!parameter->gradient.defined());
  CHECK(run.context.memory().statistics().bytes_reserved <= limit);

  // Beside the ballast there is room for small batches; without it for the same as before. Both
  // train as they do where memory is plenty.
  Run plenty(context_with(2));
  for (size_t i = 0; i < after_last.size(); ++i)
    copy(Tensor(plenty.context, {int64_t(after_last[i].size())}, after_last[i]),
         plenty.model->parameters()[i].parameter->value);
  run.losses.clear();
  for (Run* each : {&run, &plenty}) {
    each->options.batch_size = 2;
    each->train();
    ballast.clear();
    each->options.batch_size = 16;
    each->train();
  }
  check_same(run, plenty);
}

TEST_CASE("train: options outside their ranges are refused") {
  Run run(test_context());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [&](const auto& change) {
    const TrainOptions sound = run.options;
    change(run.options);
    CHECK_THROWS_AS(run.train(), ValueError);
    run.options = sound;
  };
  refused([](TrainOptions& o) { o.steps = 0; });
  refused([](TrainOptions& o) { o.batch_size = 0; });
  refused([](TrainOptions& o) { o.length = -1; });
  refused([](TrainOptions& o) { o.lr = 0; });
  refused([&](TrainOptions& o) { o.lr = nan; });
  refused([](TrainOptions& o) { o.lr = std::numeric_limits<double>::infinity(); });
  refused([](TrainOptions& o) { o.end_lr = 2 * o.lr; });
  refused([&](TrainOptions& o) { o.end_lr = nan; });
  refused([](TrainOptions& o) { o.clip = 0; });
  refused([](TrainOptions& o) { o.warmup = -1; });
  refused([](TrainOptions& o) { o.adamw.beta1 = 1; });
  CHECK(run.losses.empty());
}

TEST_CASE("train: a curriculum starts short, grows evenly and ends at the whole length") {
  const TrainOptions options{.steps = 100, .length = 16, .curriculum = {.from = 2, .share = 0.5}};
  CHECK(length_at(options, 0) == 2);
  CHECK(length_at(options, 25) == 9);
  CHECK(length_at(options, 49) == 15);
  CHECK(length_at(options, 50) == 16);
  CHECK(length_at(options, 99) == 16);
  for (int64_t step = 1; step < 100; ++step)
    CHECK(length_at(options, step) - length_at(options, step - 1) <= 1);
  CHECK(length_at({.length = 16}, 0) == 16);
  Run run(test_context());
  for (const Curriculum& wrong : {Curriculum{-1, 0.5}, {13, 0.5}, {2, 1.5}, {2, -0.1}}) {
    run.options.curriculum = wrong;
    CHECK_THROWS_AS(run.train(), ValueError);
  }
}

// A scale so large that all is finite but the gradients' squares.
TEST_CASE("train: gradients too long to be taken are named, and change nothing") {
  Run run(test_context());
  run.options.clip = 1e300;
  const Tensor& scale = run.model->parameter("norm.weight").value;
  copy(full(run.context, scale.shape(), kDouble ? real(1e200) : real(1e25)), scale);
  const auto before = values_of(*run.model);
  check_refused<Error>("got 10 and 'the squares of the gradients'", [&] { run.train(); });
  for (const double loss : run.losses) CHECK(std::isfinite(loss));
  CHECK(same_bits(values_of(*run.model), before));
}

}  // namespace fprnn::tests
