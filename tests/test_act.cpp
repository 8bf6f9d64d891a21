// Adaptive computation time as a layer: parameters, states, the ponder cost in the loss, what it
// reports and refuses.
#include <doctest/doctest.h>
#include <fprnn/models/act.h>
#include <fprnn/ops/layout.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <cmath>

#include "close.h"
#include "refused.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kB = 2, kT = 7, kInputs = 3, kHidden = 5;
constexpr RecurrentCell kCells[] = {RecurrentCell::lstm, RecurrentCell::gru};

// A layer with the memory that it stands on.
struct Block {
  Rng rng{.seed = 3, .stream = 0};
  Root root = {};
  Act layer;

  Block(const Context& context, RecurrentCell cell, double ponder_weight = 1e-3)
      : layer(root, "layer", {context, rng},
              {.cell = cell,
               .inputs = kInputs,
               .hidden = kHidden,
               .max_steps = 6,
               .ponder_weight = ponder_weight}) {}
};

}  // namespace

TEST_CASE("act: parameters are the cell's and the halting unit's, whose bias starts at 1") {
  for (const RecurrentCell cell : kCells) {
    Block block(test_context(), cell);
    const int64_t rows = gates_of(cell) * kHidden;
    CHECK(block.layer.parameter("cell.weight_ih").value.shape() == Shape{rows, kInputs + 1});
    CHECK(block.layer.parameter("cell.weight_hh").value.shape() == Shape{rows, kHidden});
    CHECK(block.layer.parameter("halt.weight").value.shape() == Shape{1, kHidden});
    CHECK(block.layer.parameter("halt.bias").value.to_vector() == std::vector<real>{1});
    for (const auto& [path, parameter] : block.layer.parameters())
      CHECK(parameter->decays == (path.find("weight") != std::string::npos));
  }
}

TEST_CASE("act: chunks with their states are the whole sequence, and gradients pass through them") {
  const Context context = test_context();
  for (const RecurrentCell cell : kCells) {
    Block block(context, cell);
    scramble(block.layer);
    Tape tape(context);
    const Var u = tape.variable(random(context, {kB, kT, kInputs}, 5));
    std::vector<Var> wanted{u};
    for (const auto& [path, parameter] : block.layer.parameters())
      wanted.push_back(tape.leaf(*parameter));
    const std::vector<Tensor> seeds{random(context, {kB, kT, kHidden}, 6),
                                    random(context, {kB, kT}, 7)};
    ActState unused;
    const ActResult whole = block.layer.forward(u, unused);
    const auto gradients = tape.vjp({whole.h, whole.ponder}, seeds, wanted);
    const double near = kDouble ? 1e-12 : 1e-5;
    for (const int64_t length : {1, 3}) {
      ActState state;
      LayerState values;
      std::vector<Var> h, ponder, plain;
      for (int64_t t = 0; t < kT; t += length) {
        const Var chunk = slice(u, 1, t, std::min(kT, t + length));
        const ActResult part = block.layer.forward(chunk, state);
        h.push_back(part.h);
        ponder.push_back(part.ponder);
        plain.push_back(block.layer.forward(chunk.value(), values));
      }
      check_close("values", concat(plain, 1).value().to_vector(), whole.h.value().to_vector(),
                  near);
      const auto of_chunks = tape.vjp({concat(h, 1), concat(ponder, 1)}, seeds, wanted);
      for (size_t i = 0; i < wanted.size(); ++i)
        check_close("gradient", of_chunks[i].to_vector(), gradients[i].to_vector(), 10 * near);
    }
  }
}

// The kernel of the CPU takes sequences together that halt at different times.
TEST_CASE("act: the steps of a token do not depend on batch mates") {
  const Context context = test_context();
  for (const RecurrentCell cell : kCells) {
    Block block(context, cell);
    scramble(block.layer);
    const Tensor u = random(context, {3, kT, kInputs}, 5, 3);
    ActState together;
    const std::vector<int32_t> steps = block.layer.forward(u, together).steps.to_vector();
    CHECK(*std::ranges::min_element(steps) < *std::ranges::max_element(steps));
    for (int64_t b = 0; b < 3; ++b) {
      ActState alone;
      CHECK(block.layer.forward(slice(u, 0, b, b + 1), alone).steps.to_vector() ==
            std::vector<int32_t>(steps.begin() + b * kT, steps.begin() + (b + 1) * kT));
    }
  }
}

TEST_CASE("act: the weighted mean of the ponder cost is a part of the loss") {
  const Context context = test_context();
  Block block(context, RecurrentCell::gru, 0.25), none(context, RecurrentCell::gru, 0);
  const Tensor u = random(context, {kB, kT, kInputs}, 5);
  std::vector<Var> losses;
  block.layer.forward(u, Conditions{.losses = &losses});
  REQUIRE(losses.size() == 1);
  ActState state;
  const ActResult out = block.layer.forward(u, state);
  double mean = 0, steps = 0;
  for (const real cost : out.ponder.value().to_vector()) mean += double(cost) / (kB * kT);
  for (const int32_t n : out.steps.to_vector()) steps += double(n) / (kB * kT);
  CHECK(losses[0].value().to_vector()[0] == doctest::Approx(0.25 * mean).epsilon(1e-5));
  CHECK(block.layer.solve_report().read().mean_iterations() == doctest::Approx(steps));
  CHECK(block.layer.solve_report().read().unconverged() == 0);
  none.layer.forward(u, Conditions{.losses = &losses});
  CHECK(losses.size() == 1);
}

TEST_CASE("act: training adds the ponder cost to its loss and reports the mean number of steps") {
  const Context context = test_context();
  const auto first = [&](double ponder_weight) {
    const WordProblem task(group_named("Z2"));
    const auto make_layer = [&](Module& parent, std::string name, const Init& init) {
      return std::make_unique<Act>(
          parent, std::move(name), init,
          ActOptions{.inputs = 8, .hidden = 8, .ponder_weight = ponder_weight});
    };
    Rng rng{.seed = 1};
    SequenceModel model(
        {context, rng},
        {.vocabulary = task.vocabulary(), .d_model = 8, .layers = 1, .make_layer = make_layer});
    Training training(model, task, context, {.steps = 2, .batch_size = 4, .length = 5});
    return training.step();
  };
  const StepMetrics none = first(0), half = first(0.5), one = first(1);
  CHECK(one.loss - none.loss > 1);  // a token takes a step at least
  CHECK(one.loss - none.loss == doctest::Approx(2 * (half.loss - none.loss)).epsilon(1e-4));
  CHECK(one.grad_norm != none.grad_norm);
  CHECK(none.iterations_mean >= 1);
  CHECK(none.iterations_max >= none.iterations_mean);
  CHECK(none.residual_max == 0);
}

TEST_CASE("act: other sizes, options, states and conditions are refused") {
  const Context context = test_context();
  Block lstm(context, RecurrentCell::lstm), gru(context, RecurrentCell::gru);
  const Tensor u = random(context, {2, 3, kInputs}, 1);
  LayerState state;
  lstm.layer.forward(u, state);
  check_refused<UsageError>("[act] a state must be one of this layer",
                            [&] { gru.layer.forward(u, state); });
  check_refused<UsageError>("(2, 5) and (3, 5)", [&] {
    lstm.layer.forward(random(context, {3, 1, kInputs}, 1), state);
  });
  check_refused<ShapeError>("[act] u must be (B, T, inputs), got (2, 3, 4) and 3", [&] {
    lstm.layer.forward(random(context, {2, 3, 4}, 1));
  });
  const Conditions forgets{.state_mask = full(context, {2, 3}, 1)};
  check_refused<ValueError>("[act] no step of it can forget its state",
                            [&] { gru.layer.forward(u, forgets); });
  for (const ActOptions& options :
       {ActOptions{.inputs = 0}, ActOptions{.hidden = kMaxSize + 1}, ActOptions{.epsilon = -0.1},
        ActOptions{.epsilon = 1}, ActOptions{.max_steps = 0}, ActOptions{.max_steps = 1001},
        ActOptions{.ponder_weight = -1}, ActOptions{.ponder_weight = NAN}}) {
    Rng rng;
    Root root;
    CHECK_THROWS_AS(Act(root, "layer", {context, rng}, options), ValueError);
  }
}

}  // namespace fprnn::tests
