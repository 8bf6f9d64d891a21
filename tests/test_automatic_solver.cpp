// The automatic solver: when it tries the parallel one, whose answer it gives, and what it remembers.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>

#include "fp_cases.h"
#include "named_model.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kAlways = 1000;  // a crossover above any cap

void set_automatic(FixedPointLayer& layer, int64_t crossover) {
  layer.solver.solver = Solver::automatic;
  layer.solver.crossover = crossover;
}

// What a layer makes of a batch: outputs, solution, what it carries on, residuals and gradients.
struct Answer {
  Values values;
  std::vector<int64_t> iterations;

  Answer(FixedPointLayer& layer, const Tensor& u, FixedPointState state = {}) {
    Tape tape(u.context());
    std::vector<Var> wanted{tape.variable(u)};
    const Var out = layer.forward(wanted[0], state);
    for (const auto& [path, parameter] : layer.parameters())
      wanted.push_back(tape.leaf(*parameter));
    const FixedPointReport report = layer.report();
    iterations = report.iterations;
    values = {out.value().to_vector(), layer.solution().to_vector(), report.residual,
              state.y.to_vector(), state.carry.to_vector()};
    const Tensor seed = random(u.context(), out.shape(), 77);
    for (const Tensor& gradient : tape.vjp({out}, {seed}, wanted))
      values.push_back(gradient.defined() ? gradient.to_vector() : Values::value_type());
  }
  bool operator==(const Answer& other) const {
    return same_bits(values, other.values) && iterations == other.iterations;
  }
};

template <class Visit>
void for_layers(const Visit& visit) {
  const Context context = test_context();
  for (const Case& entry : all_cases()) {
    if (!entry.plain) continue;
    INFO(entry.name);
    Built built(context, entry);
    visit(built, *built.layer);
  }
}

// A layer with householder mixers of the word problem of S3.
std::unique_ptr<SequenceModel> tracker(const Context& context, const WordProblem& task,
                                       const SolverOptions& solver) {
  Rng rng = initial_stream(3);
  auto model = named_model(
      {{"d_model", "8"}, {"d_state", "4"}, {"mixer", "householder"}, {"mixer_scale", "1"}},
      task.vocabulary(), {context, rng});
  dynamic_cast<FixedPointLayer&>(*model->layers().front()).solver = solver;
  return model;
}
FixedPointLayer& layer_of(SequenceModel& model) {
  return dynamic_cast<FixedPointLayer&>(*model.layers().front());
}

}  // namespace

TEST_CASE("automatic solver: the crossover is the one that was measured, or never") {
  struct Row {
    int64_t T, B;
    double crossover;
  };
  const Row rows[] = {{17, 1, 6},     {17, 64, 10},  {17, 512, 6},  {64, 1, 23},   {64, 64, 22},
                      {64, 512, 7},   {256, 1, 50},  {256, 64, 33}, {256, 512, 8}, {1024, 1, 68},
                      {1024, 64, 40}, {4096, 1, 74}, {4096, 8, 73}};
  for (const Row& row : rows) {
    const int64_t T = row.T, B = row.B;
    const double measured = row.crossover;
    INFO("T ", T, ", B ", B);
    const int64_t crossover = solver_crossover(DeviceKind::cuda, B, T);
    if (measured < 12)
      CHECK(crossover == 0);
    else
      CHECK(std::abs(double(crossover) - measured) <= 0.15 * measured);
    CHECK(solver_crossover(DeviceKind::cpu, B, T) == 0);
  }
  for (const int64_t B : {0, 1, 512})
    for (const int64_t T : {0, 1}) CHECK(solver_crossover(DeviceKind::cuda, B, T) == 0);
  CHECK(solver_crossover(DeviceKind::cuda, 0, 1024) == 0);
}

TEST_CASE("automatic solver: what failed is tried again ever more seldom, what is known at once") {
  SolverMemory memory;
  for (const int64_t wait : {16, 64, 256, 1024, 1024}) {
    REQUIRE(memory.allowed(20) == 20);
    memory.missed(20);
    for (int64_t i = 0; i < wait; ++i) {
      REQUIRE(memory.allowed(20) == 0);
      REQUIRE(memory.allowed(0) == 0);  // of no account
    }
  }
  memory.missed(20);
  CHECK(memory.allowed(15) == 0);
  CHECK(memory.allowed(30) == 30);  // where it may take so many, as it may need no more
  memory.settled_after(25);
  CHECK(memory.allowed(30) == 30);
  CHECK(memory.allowed(20) == 0);
  memory.settled_after(10);
  CHECK(memory.allowed(20) == 20);
  memory.missed(20);
  for (int64_t i = 0; i < 16; ++i) REQUIRE(memory.allowed(20) == 0);
  CHECK(memory.allowed(20) == 20);
}

TEST_CASE("automatic solver: what settles below the crossover is the parallel solver's answer") {
  for_layers([](Built& built, FixedPointLayer& layer) {
    built.set(Solver::parallel);
    const Answer parallel(layer, built.u);
    built.set(Solver::sequential);
    const Answer sequential(layer, built.u);
    set_automatic(layer, kAlways);
    for (int i = 0; i < 2; ++i) {
      CHECK(Answer(layer, built.u) == parallel);
      CHECK(layer.used() == Solver::parallel);
    }
    CHECK(!same_bits(sequential.values, parallel.values));
  });
}

TEST_CASE("automatic solver: what does not is the sequential solver's, to the bit") {
  for_layers([](Built& built, FixedPointLayer& layer) {
    const Answer sequential(layer, built.u);
    set_automatic(layer, 2);
    SolverMemory expected;
    for (int i = 0; i < 20; ++i) {  // the first and the eighteenth fail
      if (expected.allowed(2) > 0) expected.missed(2);
      CHECK(Answer(layer, built.u) == sequential);
      CHECK(layer.used() == Solver::sequential);
      CHECK(layer.memory == expected);
    }
    SolverMemory twice;
    for (int i = 0; i < 2; ++i) twice.missed(2);
    for (int i = 0; i < 2; ++i) twice.allowed(2);
    CHECK(layer.memory == twice);
  });
}

// One iteration is too few for the gradient that is iterated, and of no account to a sweep of low rank.
TEST_CASE("automatic solver: the exact gradient is that of the solver that found the solution") {
  FpMambaOptions options = kMamba;
  options.mixer = MixerKind::householder;
  Built built(test_context(), mamba_case("householder", options));
  FixedPointLayer& layer = *built.layer;
  const Answer sequential(layer, built.u);
  layer.solver.gradient.max_iterations = 1;
  set_automatic(layer, 2);
  CHECK(Answer(layer, built.u) == sequential);
  set_automatic(layer, kAlways);
  const Answer parallel(layer, built.u);
  built.set(Solver::parallel);
  CHECK(parallel != Answer(layer, built.u));
}

// At its own number of iterations a solve is not below the crossover, one more and it is.
TEST_CASE("automatic solver: the crossover and the cap are kept to the iteration") {
  const Context context = test_context();
  Built built(context, all_cases().front());
  FixedPointLayer& layer = *built.layer;
  built.set(Solver::parallel);
  const Answer parallel(layer, built.u);
  const int64_t needed = std::ranges::max(parallel.iterations);
  const auto used = [&](int64_t crossover, int64_t cap) {
    set_automatic(layer, crossover);
    layer.solver.max_iterations = cap;
    layer.memory = {};
    layer.forward(built.u);
    return layer.used();
  };
  CHECK(used(needed, kAlways) == Solver::sequential);
  CHECK(used(needed + 1, kAlways) == Solver::parallel);
  CHECK(used(kAlways, needed) == Solver::sequential);
  CHECK(used(kAlways, needed + 1) == Solver::parallel);
  CHECK_THROWS_AS(used(-1, kAlways), ValueError);
}

TEST_CASE("automatic solver: a step alone and no sequence at all are not tried in parallel") {
  for_layers([](Built& built, FixedPointLayer& layer) {
    const Tensor one = slice(built.u, 1, 0, 1).value(), none = slice(built.u, 0, 0, 0).value();
    const Answer sequential(layer, one);
    set_automatic(layer, kAlways);
    CHECK(Answer(layer, one) == sequential);
    CHECK(layer.used() == Solver::sequential);
    layer.forward(none);
    CHECK(layer.memory == SolverMemory());
  });
}

TEST_CASE("automatic solver: the same solves in the same order are made in the same way") {
  for_layers([](Built& built, FixedPointLayer& layer) {
    const auto all = [&] {
      std::vector<Answer> answers;
      std::vector<Solver> used;
      layer.memory = {};
      for (const int64_t crossover : {2, 2, 1000, 2, 1000, 3}) {
        set_automatic(layer, crossover);
        answers.emplace_back(layer, built.u);
        used.push_back(layer.used());
      }
      return std::pair(answers, used);
    };
    const auto first = all();
    CHECK(first.second == std::vector{Solver::sequential, Solver::sequential, Solver::parallel,
                                      Solver::sequential, Solver::parallel, Solver::sequential});
    CHECK(all() == first);
  });
}

TEST_CASE("automatic solver: the CPU's is the sequential one, and no graph may hold it") {
  const Context context = host_context();
  Built built(context, all_cases().front());
  FixedPointLayer& layer = *built.layer;
  CHECK(layer.capturable());
  const Answer sequential(layer, built.u);
  set_automatic(layer, 0);
  CHECK(!layer.capturable());
  CHECK(Answer(layer, built.u) == sequential);
  CHECK(layer.memory == SolverMemory());
}

TEST_CASE("automatic solver: training is sequential, so the same whatever was solved before") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  std::vector<Values> results;
  for (const Solver solver : {Solver::sequential, Solver::automatic}) {
    SolverOptions options = solver_options({});
    options.solver = solver;
    options.crossover = kAlways;
    const auto model = tracker(context, task, options);
    std::vector<real> losses;
    train(*model, task, context, {.steps = 6, .batch_size = 4, .length = 6, .lr = 1e-2},
          [&](const StepMetrics& metrics) {
            losses.push_back(static_cast<real>(metrics.loss));
            // What a GPU repeats from the third step on leaves this as it is.
            if (metrics.step <= 2) CHECK(layer_of(*model).used() == Solver::sequential);
            evaluate(*model, task, context, 1, 5, 4);
            CHECK((layer_of(*model).used() == Solver::parallel) == (solver == Solver::automatic));
            return true;
          });
    CHECK(layer_of(*model).solver == options);
    results.push_back(values_of(*model));
    results.back().push_back(losses);
  }
  CHECK(same_bits(results[0], results[1]));
}

// One product with J^T is all that the adjoint may take.
TEST_CASE("train: what the exact gradient's own solves miss is counted beside the solution's") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  for (const Solver solver : {Solver::sequential, Solver::parallel}) {
    SolverOptions options = solver_options({.gradient = "exact"});
    options.solver = solver;
    const auto model = tracker(context, task, options);
    Training training(*model, task, context, {.steps = 4, .batch_size = 4, .length = 6});
    const StepMetrics good = training.step();
    CHECK(good.unconverged == 0);
    CHECK(good.adjoint_unconverged == 0);
    CHECK(good.adjoint_iterations_max >= 1);
    CHECK(good.adjoint_residual_max > 0);
    layer_of(*model).solver.gradient.tolerance = 0;
    const StepMetrics missed = training.step();
    CHECK(missed.unconverged == 0);
    CHECK(missed.adjoint_unconverged >= 1);
    layer_of(*model).solver.gradient = {};
    CHECK(training.step().adjoint_iterations_max == 0);
  }
}

TEST_CASE("automatic solver: an evaluation does not depend on the one before") {
  const Context context = test_context();
  const WordProblem task(group_named("S3"));
  SolverOptions options = solver_options({});
  options.crossover = 2;
  const auto model = tracker(context, task, options);
  evaluate(*model, task, context, 1, 8, 4);
  const SolverMemory once = layer_of(*model).memory;
  CHECK(once != SolverMemory());
  evaluate(*model, task, context, 1, 8, 4);
  CHECK(layer_of(*model).memory == once);
}

}  // namespace fprnn::tests
