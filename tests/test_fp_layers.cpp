// The fixed-point layers FP-Mamba and FP-RNN: one answer from every solver, cut and batch, and what a NaN
// does. Their exact gradient is in test_fp_gradients.cpp, the paper's theorems in test_fp_claims.cpp.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/layout.h>

#include <algorithm>
#include <limits>

#include "close.h"
#include "fp_cases.h"

namespace fprnn::tests {

namespace {

constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
constexpr int64_t kCut = 3;

Var times(const Var& x, int64_t begin, int64_t end) { return slice(x, 1, begin, end); }

// Outputs of the layer, its solution and what it would carry on.
struct Answer {
  Values values;  // out, y, then the state

  Answer(FixedPointLayer& layer, const Var& u, int64_t chunk = kTime) {
    Vars out, y;
    FixedPointState state;
    for (int64_t t = 0; t < kTime; t += chunk) {
      out.push_back(layer.forward(times(u, t, std::min(kTime, t + chunk)), state));
      y.push_back(layer.solution());
    }
    values = {concat(out, 1).value().to_vector(), concat(y, 1).value().to_vector(),
              state.y.to_vector(), state.carry.to_vector()};
    for (const Tensor& carried : state.convolutions) values.push_back(carried.to_vector());
  }
};

void check_same(const std::string& name, const Values& x, const Values& y, double tolerance) {
  REQUIRE(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i)
    check_close(fmt::format("{}, value {}", name, i), x[i], y[i], tolerance);
}

}  // namespace

TEST_CASE("fp layers: the sequential and the parallel solver find one answer") {
  for_layers(all_cases(), [](Built& built, const std::string& name) {
    const Answer sequential(*built.layer, built.u);
    CHECK_MESSAGE(built.layer->report().unconverged() == 0,
                  name << ", sequential: " << built.layer->report().max_residual());
    built.set(Solver::parallel);
    const Answer parallel(*built.layer, built.u);
    CHECK_MESSAGE(built.layer->report().unconverged() == 0,
                  name << ", parallel: " << built.layer->report().max_residual());
    check_same(name, sequential.values, parallel.values, kSame);
  });
}

TEST_CASE("fp layers: a whole sequence is the same in chunks and one step at a time") {
  for_solved_layers(all_cases(), [](Built& built, const std::string& name) {
    const Answer whole(*built.layer, built.u);
    for (const int64_t chunk : {kCut, int64_t(1)})
      check_same(fmt::format("{}, chunks of {}", name, chunk),
                 Answer(*built.layer, built.u, chunk).values, whole.values, kSame);
  });
}

TEST_CASE("fp layers: the state of another batch is refused") {
  for_solved_layers(all_cases(), [](Built& built, const std::string& name) {
    INFO(name);
    FixedPointState state;
    built.layer->forward(built.u, state);
    CHECK_THROWS_AS(built.layer->forward(slice(built.u, 0, 0, 2), state), UsageError);
  });
}

TEST_CASE("fp layers: the state of another layer is refused, and stays as it was") {
  const Context context = test_context();
  const auto convolved = with(kMamba, [](auto& o) { o.conv_width = 4; });
  const auto more_states = with(kMamba, [](auto& o) { o.d_state = 8; });
  const auto rnn_convolved = with(kRnn, [](auto& o) { o.conv_width = 4; });
  const Case cases[] = {mamba_case("plain", kMamba), mamba_case("with a convolution", convolved),
                        mamba_case("more states", more_states), rnn_case("plain", kRnn),
                        rnn_case("with convolutions", rnn_convolved)};
  for (const Case& from : cases)
    for (const Case& to : cases) {
      if (from.name == to.name) continue;
      INFO(from.name << " to " << to.name);
      Built maker(context, from), taker(context, to);
      FixedPointState state;
      maker.layer->forward(maker.u, state);
      const auto y = state.y.to_vector();
      CHECK_THROWS_AS(taker.layer->forward(taker.u, state), UsageError);
      CHECK(same_bits(Values{state.y.to_vector()}, Values{y}));
      LayerState parts;
      static_cast<Layer&>(*maker.layer).forward(maker.u, parts);
      CHECK_THROWS_AS(static_cast<Layer&>(*taker.layer).forward(taker.u, parts), UsageError);
    }
  Built layer(context, mamba_case("with a convolution", convolved)),
      rnn(context, rnn_case("with convolutions", rnn_convolved));
  FixedPointState whole, rnn_state;
  layer.layer->forward(layer.u, whole);
  rnn.layer->forward(rnn.u, rnn_state);
  FixedPointState part = whole;
  part.carry = Tensor();
  CHECK_THROWS_AS(layer.layer->forward(layer.u, part), UsageError);
  part = whole, part.convolutions.clear();
  CHECK_THROWS_AS(layer.layer->forward(layer.u, part), UsageError);
  part = rnn_state, part.convolutions.resize(1);
  CHECK_THROWS_AS(rnn.layer->forward(rnn.u, part), UsageError);
}

TEST_CASE("fp layers: a sequence's answer is the same alone and in a batch") {
  for_solved_layers(all_cases(), [](Built& built, const std::string& name) {
    const Answer batch(*built.layer, built.u);
    for (int64_t b = 0; b < kBatch; ++b) {
      const Answer alone(*built.layer, slice(built.u, 0, b, b + 1));
      for (size_t i = 0; i < batch.values.size(); ++i) {
        const auto& all = batch.values[i];
        const auto size = static_cast<int64_t>(all.size()) / kBatch;
        const std::vector row(all.begin() + b * size, all.begin() + (b + 1) * size);
        check_same_alone(fmt::format("{}, row {}, value {}", name, b, i), alone.values[i], row,
                         kSame);
      }
    }
  });
}

TEST_CASE("fp layers: outputs and gradients have the same bits on any number of threads") {
  for (const Case& entry : all_cases())
    for (const Solver solver : kSolvers) {
      Values first;
      for (const int threads : {1, 2, 3}) {
        Built built(context_with(threads), entry);
        built.set(solver);
        Values values = Answer(*built.layer, built.u).values;
        for (auto& gradient : gradients_of(built, built.u, {})) values.push_back(gradient);
        if (threads == 1) first = values;
        CHECK_MESSAGE(same_bits(values, first),
                      entry.name << ", " << name_of(solver) << ", " << threads << " threads");
      }
    }
}

TEST_CASE("fp layers: the exact gradient is the same swept back in time and iterated") {
  for_layers(all_cases(), [](Built& built, const std::string& name) {
    FixedPointState carried;
    built.layer->forward(times(built.u, 0, kCut), carried);
    const Var rest = times(built.u, kCut, kTime);
    const Values swept = gradients_of(built, built.u, {}),
                 swept_rest = gradients_of(built, rest, carried);
    built.set(Solver::parallel);
    check_same(name, swept, gradients_of(built, built.u, {}), kSameGradient);
    check_same(name + ", second chunk", swept_rest, gradients_of(built, rest, carried),
               kSameGradient);
  });
}

// One sequence's trouble is its own; a weight's is everyone's.
TEST_CASE("fp layers: what is not a number is reported and does not spread to batch mates") {
  for_solved_layers(all_cases(), [](Built& built, const std::string& name) {
    INFO(name);
    FixedPointLayer& layer = *built.layer;
    layer.solver.max_iterations = 30;
    const auto row = [](const Var& x, int64_t b) {
      return slice(x, 0, b, b + 1).value().to_vector();
    };
    const Var clean = layer.forward(built.u);
    const Tensor u = clone(built.u);
    exchange_element(u, kTime * kWidth + 2, kNan);
    const Var spoilt = layer.forward(u);
    CHECK(!layer.report().converged(1));
    for (const int64_t b : {0, 2}) CHECK(same_bits(row(spoilt, b), row(clean, b)));

    exchange_element(layer.parameters().front().parameter->value, 3, kNan);
    layer.forward(built.u);
    CHECK(layer.report().unconverged() == kBatch);
    layer.solver.unconverged = Unconverged::fail;
    CHECK_THROWS_AS(layer.forward(built.u), ConvergenceError);
  });
}

// Of FP-RNN the parallel solver alone: step by step it is linear and solved at once.
TEST_CASE("fp layers: one iteration does not reach a tolerance of zero") {
  const auto check = [](Built& built, const std::string& name) {
    built.layer->solver.tolerance = 0;
    built.layer->solver.max_iterations = 1;
    built.layer->forward(built.u);
    CHECK_MESSAGE(built.layer->report().unconverged() == kBatch, name);
    CHECK(built.layer->report().max_iterations() == 1);
  };
  for_solved_layers(mamba_cases(), check);
  for_layers(rnn_cases(), [&](Built& built, const std::string& name) {
    built.set(Solver::parallel);
    check(built, name);
  });
}

// Recorded, it is that of the whole f.
TEST_CASE("fp layers: a single step's residual is that of f") {
  for_layers(mamba_cases(), [](Built& built, const std::string& name) {
    built.layer->solver.tolerance = 0;
    built.layer->solver.max_iterations = 1;
    LayerState state;
    built.layer->forward(slice(built.u, 1, 0, kTime - 1).value(), state);
    LayerState same = state;
    const Tensor last = slice(built.u, 1, kTime - 1, kTime).value();
    built.layer->forward(last, state);
    const std::vector<real> alone = built.layer->report().residual;
    Tape tape(built.context);
    built.layer->forward(tape.constant(last), same);
    const std::vector<real> of_f = built.layer->report().residual;
    CHECK_MESSAGE(built.layer->report().max_residual() > kSame, name);
    check_close(name, alone, of_f, kSame);
  });
}

TEST_CASE("fp layers: dropping every state leaves y_{t-1} alone to remember") {
  for_solved_layers(mamba_cases(), [](Built& built, const std::string& name) {
    INFO(name);
    const Tensor none = zeros(built.context, {kBatch, kTime});
    const Tensor whole = built.layer->forward(built.u, {.state_mask = none}).value();
    Vars steps;
    FixedPointState state;
    for (int64_t t = 0; t < kTime; ++t) {
      steps.push_back(built.layer->forward(times(built.u, t, t + 1), state));
      state.carry = zeros(built.context, state.carry.shape());
    }
    check_close(name, whole.to_vector(), concat(steps, 1).value().to_vector(), kSame);
  });
}

// All at once and a step at a time, as a mask of its mean does; training has masks of its own.
TEST_CASE("fp layers: outside of training a step keeps the share of its state that it is told") {
  const Context context = test_context();
  const auto with_keep = [&](double keep) {
    return Built(context, mamba_case("", with(kMamba, [&](auto& o) { o.state_keep = keep; })));
  };
  Built kept = with_keep(0.75), whole = with_keep(1);
  const Tensor mean = full(kept.context, {kBatch, kTime}, real(0.75));
  const auto out = [](Built& built, const Conditions& on) {
    return built.layer->forward(built.u, on).value().to_vector();
  };
  const std::vector<real> expected = out(whole, {.state_mask = mean});
  CHECK(same_bits(out(kept, {}), expected));
  CHECK(out(whole, {}) != expected);
  CHECK(same_bits(out(kept, {.training = true}), out(whole, {.training = true})));
  CHECK(same_bits(out(kept, {.state_mask = full(kept.context, {kBatch, kTime}, 1)}),
                  out(whole, {.state_mask = full(kept.context, {kBatch, kTime}, 1)})));
  check_close("in steps", Answer(*kept.layer, kept.u, 1).values.front(), expected, kSame);
  for (const double keep : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(with_keep(keep), ValueError);
}

TEST_CASE("fp layers: with some states dropped both solvers and their exact gradients agree") {
  for_layers(mamba_cases(), [](Built& built, const std::string& name) {
    const auto of = [&](Solver solver, double rate) {
      built.set(solver);
      built.on.state_mask = Tensor(built.context, {kBatch, kTime});
      draw_state_mask(rate, {.seed = 7, .stream = 0}, built.on.state_mask);
      Values values = gradients_of(built, built.u, {});
      values.push_back(built.layer->forward(built.u, built.on).value().to_vector());
      return values;
    };
    const Values dropped = of(Solver::sequential, 0.5);
    check_same(name, dropped, of(Solver::parallel, 0.5), kSameGradient);
    CHECK(dropped.back() != of(Solver::sequential, 0).back());
    CHECK(dropped.back() == of(Solver::sequential, 0.5).back());
  });
}

// What Q = I leaves is the norm's bias: x has nothing to choose, and nothing else comes in.
TEST_CASE("fp layers: without additive input and with Q = I a solution is its norm's bias") {
  for (const bool additive : {false, true}) {
    Built built(
        test_context(),
        mamba_case("", with(kMamba, [&](auto& o) { o.scale = 0, o.additive_input = additive; })));
    built.layer->forward(built.u);
    const std::vector<real> bias = built.layer->parameter("out_norm.bias").value.to_vector();
    std::vector<real> expected;
    for (int64_t token = 0; token < kBatch * kTime; ++token)
      expected.insert(expected.end(), bias.begin(), bias.end());
    const double error = relative_error(built.layer->solution().to_vector(), expected);
    CHECK(additive == (error > 0.1));
    if (!additive) CHECK(error <= kSame);
  }
}

TEST_CASE("fp layers: a rate of dropping that is none, or a mask that does not fit, is refused") {
  const Context context = test_context();
  const Tensor mask(context, {kBatch, kTime});
  for (const double rate : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(draw_state_mask(rate, {}, mask), ValueError);
    CHECK_THROWS_AS(draw_output_mask(rate, {}, mask), ValueError);
  }
  CHECK_THROWS_AS(draw_output_mask(1, {}, mask), ValueError);
  Built mamba(context, mamba_cases().front()), rnn(context, rnn_cases().front());
  CHECK_THROWS_AS(mamba.layer->forward(mamba.u, {.state_mask = zeros(context, {kBatch, 1})}),
                  ShapeError);
  CHECK_THROWS_AS(rnn.layer->forward(rnn.u, {.state_mask = mask}), ValueError);
}

}  // namespace fprnn::tests
