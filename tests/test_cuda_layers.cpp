// Whole layers and whole trainings on the GPU: what the CPU finds, and the same bytes each time.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/ops/selective_scan.h>
#include <fprnn/tasks/run/train.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <cmath>

#include "close.h"
#include "fp_cases.h"
#include "needs.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

void copy_parameters(Module& from, Module& to) {
  const auto sources = from.parameters(), targets = to.parameters();
  REQUIRE(sources.size() == targets.size());
  for (size_t i = 0; i < sources.size(); ++i)
    assign(targets[i].parameter->value, sources[i].parameter->value.to_vector());
}

// One layer on both devices, with the same weights and input.
struct Twins {
  Built here, there;

  Twins(const Context& cpu, const Context& gpu, const Case& entry, const Shape& shape)
      : here(cpu, entry, shape), there(gpu, entry, shape) {
    copy_parameters(*here.layer, *there.layer);
    there.u = here.u.on(gpu);
  }
  void repeat_first_sequence() {
    const int64_t B = here.u.size(0), elements = here.u.elements() / B;
    for (int64_t b = 1; b < B; ++b)
      std::copy_n(here.u.data(), elements, here.u.data() + b * elements);
    there.u = here.u.on(there.context);
  }
  template <class Change>
  void both(const Change& change) {
    change(here);
    change(there);
  }
};

// What a layer gives: loss, output, solution, state; then the gradients of u and the parameters. Those of the
// steps from `first` on, where the others leave their state.
struct Found {
  Values values, gradients;

  explicit Found(Built& built, int64_t first = 0) {
    Tape tape(built.context);
    std::vector<Var> asked{tape.variable(built.u)};
    FixedPointState state;
    if (first > 0) built.layer->forward(slice(built.u, 1, 0, first), state);
    const Var y = built.layer->forward(slice(asked[0], 1, first, built.u.size(1)), state, built.on);
    const Tensor seed = random(host_context(), y.shape(), 2).on(built.context);
    const Var loss = sum(mul(y, seed));
    values = {loss.value().to_vector(), y.value().to_vector(), built.layer->solution().to_vector(),
              state.y.to_vector(), state.carry.to_vector()};
    for (const auto& [path, parameter] : built.layer->parameters())
      asked.push_back(tape.leaf(*parameter));
    const Tensor one = full(built.context, {}, 1);
    for (const Tensor& gradient : tape.vjp({loss}, {one}, asked))
      gradients.push_back(gradient.to_vector());
  }
};

// The loss is a sum in which much cancels, so its error is that of its terms.
void check_twins(Twins& twins, const std::string& name, int64_t first = 0) {
  const Found here(twins.here, first), there(twins.there, first);
  CHECK(std::abs(there.values[0][0] - here.values[0][0]) <= kSame * length(here.values[1]));
  for (size_t i = 1; i < here.values.size(); ++i)
    check_close(fmt::format("{}, value {}", name, i), there.values[i], here.values[i], kSame);
  REQUIRE(there.gradients.size() == here.gradients.size());
  for (size_t i = 0; i < here.gradients.size(); ++i)
    check_close(fmt::format("{}, gradient {}", name, i), there.gradients[i], here.gradients[i],
                kSameGradient);
}

constexpr const char* kGradients[] = {"one-step", "neumann:3", "exact"};

// Each solver with each gradient.
void check_all_ways(Twins& twins, const std::string& name) {
  for (const Solver solver : {Solver::sequential, Solver::parallel, Solver::patience})
    for (const char* gradient : kGradients) {
      twins.both([&](Built& built) {
        built.set(solver);
        built.layer->solver.gradient.kind = gradient_named(gradient).kind;
        built.layer->solver.gradient.terms = gradient_named(gradient).terms;
        built.layer->solver.patience = {.threshold = 10 * kSolveTolerance, .quantile = 1};
      });
      check_twins(twins, fmt::format("{}, {}, {}", name, name_of(solver), gradient));
    }
}

struct Width {
  int64_t width, states;
  MixerKind mixer;
  int64_t rank;
};
Case wide_mamba(const Width& of, bool glu_in_loop = false) {
  return mamba_case(fmt::format("{} {} {}{}", of.width, name_of(of.mixer), of.rank,
                                glu_in_loop ? ", gate in the loop" : ""),
                    {.d_model = of.width,
                     .d_state = of.states,
                     .mixer = of.mixer,
                     .rank = of.rank,
                     .scale = 1,
                     .glu_in_loop = glu_in_loop});
}
Case wide_mamba2(const Width& of) {
  FpMamba2Options options;
  options.d_model = of.width, options.d_state = of.states, options.scale = 1;
  options.mixer = of.mixer, options.rank = of.rank;
  options.headdim = std::min<int64_t>(of.width / 2, 64);
  return block_case<FpMamba2>(fmt::format("mamba2 {} {} {}", of.width, name_of(of.mixer), of.rank),
                              options);
}
Case wide_rnn(const Width& of) {
  return rnn_case(fmt::format("{} {} {}", of.width, name_of(of.mixer), of.rank),
                  {.d_model = of.width, .mixer = of.mixer, .rank = of.rank, .scale = 1});
}

}  // namespace

TEST_CASE("cuda: fixed-point layers give what the CPU gives with every solver and gradient" *
          needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  std::vector<Case> cases = all_cases();
  if (small_only()) std::erase_if(cases, [](const Case& entry) { return !entry.plain; });
  for (const Case& entry : cases) {
    Twins twins(cpu, gpu, entry, {kBatch, kTime, kWidth});
    check_all_ways(twins, entry.name);
  }
}

// Up to the widths at which a GPU's kernels change; a prime number of steps and of sequences.
TEST_CASE("cuda: wide fixed-point layers give what the CPU gives" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  const Width widths[] = {{12, 5, MixerKind::householder, 1},  {32, 16, MixerKind::householder, 1},
                          {64, 16, MixerKind::householder, 2}, {48, 16, MixerKind::householder, 3},
                          {32, 16, MixerKind::householder, 6}, {64, 32, MixerKind::dplr, 4},
                          {36, 16, MixerKind::kronecker, 1},   {64, 16, MixerKind::kronecker, 1},
                          {128, 16, MixerKind::kronecker, 1},  {256, 16, MixerKind::householder, 2},
                          {512, 16, MixerKind::kronecker, 1}};
  for (const Width& of : widths) {
    if (small_only() && of.width > 32 && of.width != 128) continue;
    for (const Case& entry : {wide_mamba(of), wide_rnn(of), wide_mamba2(of)}) {
      Twins twins(cpu, gpu, entry, {5, small_only() ? 3 : 17, of.width});
      // racecheck takes it for a race if a warp that reads has waited less often than the one that
      // wrote, whatever for; of equal sequences all wait as often.
      if (small_only()) twins.repeat_first_sequence();
      for (const char* gradient : kGradients) {
        twins.both([&](Built& built) {
          built.set(Solver::sequential);
          built.layer->solver.gradient.kind = gradient_named(gradient).kind;
        });
        check_twins(twins, fmt::format("{}, {}", entry.name, gradient));
      }
    }
  }
}

// What a sweep keeps for the gradients: states before two further chunks of the scan, what came before the first
// step, and the scan's own numbers without the gate.
TEST_CASE("cuda: gradients through several chunks of the scan are the CPU's" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  constexpr int64_t kFirst = 3, kSteps = kFirst + 2 * kSelectiveScanChunk + 5;
  for (const Width& of : {Width{64, 16, MixerKind::householder, 2},
                          {256, 16, MixerKind::householder, 2},
                          {128, 16, MixerKind::kronecker, 1}})
    for (const Case& entry : {wide_mamba(of), wide_mamba(of, true), wide_mamba2(of)}) {
      Twins twins(cpu, gpu, entry, {3, kSteps, of.width});
      twins.both([](Built& built) { built.set(Solver::sequential); });
      check_twins(twins, entry.name, kFirst);
    }
}

// The products y W^T in 16 bits, those that stay in floats and those of a step of its own; in one piece and in
// two. Residuals below the precision of tf32, of solutions and of their exact gradients, show that
// f is the solver's own map: where they miss their tolerance it is thrown.
TEST_CASE("cuda: layers with products in tf32 are solved by their own map" * needs_gpu() *
          needs_float()) {
  ContextOptions options = test_options();
  options.matmul_precision = MatmulPrecision::tf32;
  const Context cpu = host_context(), gpu = device_context(options);
  constexpr double kNear = 1e-2;          // ten roundings of tf32
  constexpr double kNearGradient = 5e-2;  // which go through the inverse of I - J once more
  const int64_t kSteps = small_only() ? 3 : 17, kFirst = small_only() ? 1 : 6;
  for (const Width& of : {Width{32, 16, MixerKind::householder, 1},
                          {128, 16, MixerKind::householder, 4},
                          {48, 16, MixerKind::householder, 2},
                          {256, 16, MixerKind::householder, 2},
                          {128, 16, MixerKind::kronecker, 1}}) {
    if (small_only() && of.mixer != MixerKind::householder) continue;
    for (const Case& entry : {wide_mamba(of), wide_mamba2(of)}) {
      INFO(entry.name);
      Twins twins(cpu, gpu, entry, {5, kSteps, of.width});
      if (small_only()) twins.repeat_first_sequence();
      twins.both([&](Built& built) {
        built.set(Solver::sequential);
        built.layer->solver.tolerance = real(1e-5);
        built.layer->solver.unconverged = Unconverged::fail;
      });
      const Found here(twins.here), there(twins.there);
      for (size_t i = 1; i < here.values.size(); ++i)
        check_close(fmt::format("{}, value {}", entry.name, i), there.values[i], here.values[i],
                    kNear);
      REQUIRE(there.gradients.size() == here.gradients.size());
      for (size_t i = 0; i < here.gradients.size(); ++i)
        check_close(fmt::format("{}, gradient {}", entry.name, i), there.gradients[i],
                    here.gradients[i], kNearGradient);
      FixedPointState state;
      for (const int64_t begin : {int64_t{0}, kFirst}) {
        const int64_t end = begin == 0 ? kFirst : kSteps;
        twins.there.layer->forward(slice(twins.there.u, 1, begin, end), state);
      }
    }
  }
}

TEST_CASE("cuda: layers with dropped states and in chunks give what the CPU gives" * needs_gpu()) {
  const Context cpu = host_context(), gpu = test_context();
  for (const Case& entry : mamba_cases()) {
    Twins twins(cpu, gpu, entry, {kBatch, kTime, kWidth});
    const auto in_chunks = [](Built& built) {
      FixedPointState state;
      Values values;
      for (const auto& [begin, end] : {std::pair{0, 3}, {3, 4}, {4, 4}, {4, int(kTime)}})
        values.push_back(
            built.layer->forward(slice(built.u, 1, begin, end), state).value().to_vector());
      return values;
    };
    const Values here = in_chunks(twins.here), there = in_chunks(twins.there);
    for (size_t i = 0; i < here.size(); ++i)
      check_close(fmt::format("{}, chunk {}", entry.name, i), there[i], here[i], kSame);
    twins.both([](Built& built) {
      built.on.state_mask = Tensor(built.context, built.u.shape().without(-1));
      draw_state_mask(0.5, {.seed = 7, .stream = 0}, built.on.state_mask);
    });
    check_twins(twins, entry.name + ", dropped");
  }
}

namespace {

// A small state tracker of one fixed-point layer, on the words of S3.
struct Tracker {
  Context context = test_context();
  WordProblem task{group_named("S3")};
  TrainOptions options{
      .steps = 1000, .batch_size = 8, .length = 6, .lr = 1e-2, .state_dropout = 0.2, .seed = 4};
  std::unique_ptr<SequenceModel> model;

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

// A Training records its second step: one that is made anew for each step never does.
TEST_CASE("cuda: a training that is recorded gives the bytes of one that is not" * needs_gpu()) {
  const Width low_rank{16, 8, MixerKind::householder, 2}, full{16, 8, MixerKind::kronecker, 1};
  for (const Case& entry : {wide_mamba(low_rank), wide_mamba(full), wide_mamba2(low_rank),
                            wide_rnn(low_rank), wide_rnn(full)}) {
    INFO(entry.name);
    Tracker recorded(entry), plain(entry);
    Training whole(*recorded.model, recorded.task, recorded.context, recorded.options);
    AdamWState state;
    for (int64_t step = 0; step < 12; ++step) {
      Training one(*plain.model, plain.task, plain.context, plain.options);
      if (step > 0) one.optimiser().restore(state);
      one.go_on(step, 0, 0);
      CHECK(one.step().loss == whole.step().loss);
      CHECK(one.last().iterations_mean == whole.last().iterations_mean);
      CHECK(one.last().accuracy == whole.last().accuracy);
      state = copy_of(one.optimiser().state());
      CHECK(same_bits(values_of(*plain.model), values_of(*recorded.model)));
    }
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
