// The optimiser against a plain loop in double, and the learning-rate schedule.
#include <doctest/doctest.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "close.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The same algorithm on one list of doubles, as the paper writes it.
struct NaiveAdamW {
  std::vector<double> value, mean, variance;
  double decay;

  NaiveAdamW(const Tensor& start, double decay)
      : mean(start.elements()), variance(start.elements()), decay(decay) {
    const std::vector<real> values = start.to_vector();
    value.assign(values.begin(), values.end());
  }

  void step(const std::vector<real>& gradient, double scale, double lr, int t,
            const AdamWOptions& o) {
    for (size_t i = 0; i < value.size(); ++i) {
      const double g = scale * gradient[i];
      value[i] -= lr * decay * value[i];
      mean[i] = o.beta1 * mean[i] + (1 - o.beta1) * g;
      variance[i] = o.beta2 * variance[i] + (1 - o.beta2) * g * g;
      const double corrected_mean = mean[i] / (1 - std::pow(o.beta1, t));
      const double corrected_variance = variance[i] / (1 - std::pow(o.beta2, t));
      value[i] -= lr * corrected_mean / (std::sqrt(corrected_variance) + o.eps);
    }
  }
};

// Parameters of uneven sizes, every other of which decays.
struct Parameters {
  std::vector<Parameter> all;
  explicit Parameters(const Context& context) {
    const Shape shapes[] = {{3, 7}, {5}, {1}, {kGrain + 21}, {}, {2, 64}};
    for (const Shape& shape : shapes) {
      const uint64_t number = all.size();
      all.push_back({std::to_string(number), random(context, shape, number), {}, number % 2 == 0});
    }
  }
  std::vector<NamedParameter> named() {
    std::vector<NamedParameter> list;
    for (Parameter& parameter : all) list.push_back({parameter.name, &parameter});
    return list;
  }
  // Gradients of very different sizes: the one of parameter i is about 10^-i.
  void draw_gradients(uint64_t step) {
    for (size_t i = 0; i < all.size(); ++i)
      all[i].gradient = random(all[i].value.context(), all[i].value.shape(), 100 + 10 * step + i,
                               static_cast<real>(std::pow(0.1, i)));
  }
};

}  // namespace

TEST_CASE("adamw: twenty steps with decay and clipping are those of a plain loop") {
  const Context context = test_context();
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.3};
  Parameters parameters(context);
  AdamW optimiser(parameters.named(), options);
  std::vector<NaiveAdamW> naive;
  for (const Parameter& parameter : parameters.all)
    naive.emplace_back(parameter.value, parameter.decays ? options.weight_decay : 0);
  for (int step = 1; step <= 20; ++step) {
    parameters.draw_gradients(step);
    double squares = 0;
    for (const Parameter& parameter : parameters.all)
      squares += std::pow(length(parameter.gradient.to_vector()), 2);
    const double norm = optimiser.gradient_norm();
    CHECK(std::abs(norm - std::sqrt(squares)) <= 1e-12 * norm);
    // The first steps are clipped, the last are not.
    const double clip = step <= 10 ? 1 : 100, scale = clip_factor(norm, clip);
    CHECK((scale < 1) == (step <= 10));
    const double lr = 0.05 / step;
    for (size_t i = 0; i < naive.size(); ++i)
      naive[i].step(parameters.all[i].gradient.to_vector(), scale, lr, step, options);
    const AdamW::Outcome outcome = optimiser.step(lr, clip);
    CHECK(outcome.taken);
    CHECK(std::abs(outcome.gradient_norm - norm) <= 1e-12 * norm);
    for (size_t i = 0; i < naive.size(); ++i) {
      const Parameter& parameter = parameters.all[i];
      check_close("parameter " + parameter.name + " at step " + std::to_string(step),
                  parameter.value.to_vector(), naive[i].value, kDouble ? 1e-13 : 2e-6);
      CHECK(!parameter.gradient.defined());
    }
  }
}

TEST_CASE("adamw: parameters without a gradient stay as they are") {
  const Context context = test_context();
  Parameter p{"p", random(context, {100}, 1), {}, true},
      q{"q", random(context, {100}, 2), {}, true};
  const auto p_before = p.value.to_vector(), q_before = q.value.to_vector();
  AdamW optimiser({{"p", &p}, {"q", &q}}, {.weight_decay = 0.5});
  CHECK(optimiser.gradient_norm() == 0);
  optimiser.step(0.1);
  CHECK(same_bits(p.value.to_vector(), p_before));

  p.gradient = full(context, {100}, 3);
  CHECK(std::abs(optimiser.gradient_norm() - 30) < 1e-12);
  optimiser.step(0.1);
  CHECK(p.value.to_vector() != p_before);
  CHECK(same_bits(q.value.to_vector(), q_before));
  CHECK(!p.gradient.defined());
}

TEST_CASE("adamw: a learning rate of zero changes nothing but the moments") {
  const Context context = test_context();
  Parameter p{"p", random(context, {100}, 1), {}, true};
  const auto before = p.value.to_vector();
  AdamW optimiser({{"p", &p}}, {.weight_decay = 0.5});
  p.gradient = random(context, {100}, 2);
  optimiser.step(0);
  CHECK(p.value.to_vector() == before);
  p.gradient = zeros(context, {100});
  optimiser.step(0.1);
  CHECK(p.value.to_vector() != before);
}

TEST_CASE("adamw: no bit depends on the threads") {
  std::vector<std::vector<real>> values;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    const Context context = context_with(threads);
    Parameter p{"p", random(context, {3 * kGrain + 5}, 1), {}, true};
    AdamW optimiser({{"p", &p}}, {});
    for (int step = 0; step < 3; ++step) {
      p.gradient = random(context, p.value.shape(), 10 + step);
      norms.push_back(optimiser.gradient_norm());
      optimiser.step(0.01, 1);
    }
    values.push_back(p.value.to_vector());
  }
  for (const size_t other : {1, 2}) {
    CHECK(same_bits(values[other], values[0]));
    for (const size_t step : {0, 1, 2}) CHECK(norms[3 * other + step] == norms[step]);
  }
}

TEST_CASE("adamw: options outside their ranges are refused") {
  for (const AdamWOptions& options :
       {AdamWOptions{.beta1 = -0.1}, AdamWOptions{.beta1 = 1}, AdamWOptions{.beta1 = kNan},
        AdamWOptions{.beta2 = -1e-9}, AdamWOptions{.beta2 = 1}, AdamWOptions{.beta2 = kNan},
        AdamWOptions{.eps = 0}, AdamWOptions{.eps = -1}, AdamWOptions{.eps = kNan},
        AdamWOptions{.weight_decay = -1}, AdamWOptions{.weight_decay = kNan}})
    CHECK_THROWS_AS(AdamW({}, options), ValueError);
  CHECK_NOTHROW(AdamW({}, {.beta1 = 0, .beta2 = 0, .weight_decay = 0}));
}

TEST_CASE("adamw: without any gradient there is no step") {
  const Context context = test_context();
  Parameter p{"p", random(context, {7}, 1), {}, true}, nothing{"nothing", zeros(context, {0}), {}};
  const auto before = p.value.to_vector();
  AdamW optimiser({{"p", &p}, {"nothing", &nothing}}, {});
  CHECK(!optimiser.step(0.1).taken);
  nothing.gradient = zeros(context, {0});
  CHECK(!optimiser.step(0.1).taken);
  CHECK(optimiser.state().steps == 0);
  CHECK(same_bits(p.value.to_vector(), before));
  p.gradient = random(context, {7}, 2);
  CHECK(optimiser.step(0.1).taken);
  CHECK(optimiser.state().steps == 1);
  CHECK(!AdamW({}, {}).step(0.1).taken);
}

TEST_CASE("adamw: a learning rate or a clip that is none is refused and changes nothing") {
  const Context context = test_context();
  Parameter p{"p", random(context, {7}, 1), {}, true};
  const auto before = p.value.to_vector();
  AdamW optimiser({{"p", &p}}, {});
  p.gradient = random(context, {7}, 2);
  for (const double lr : {kNan, -0.1, kInfinity, 1e39})
    if (!kDouble || lr != 1e39)
      check_refused<ValueError>("[adamw] lr", [&] { optimiser.step(lr); });
  for (const double clip : {kNan, -1.0, 0.0})
    check_refused<ValueError>("[adamw] clip", [&] { optimiser.step(0.1, clip); });
  CHECK(same_bits(p.value.to_vector(), before));
  CHECK(optimiser.state().steps == 0);
  CHECK(optimiser.step(0.1, kInfinity).taken);
}

// Of a gradient that long the second moment would be infinite, and the weight would never move again.
TEST_CASE(
    "adamw: a gradient whose square is beyond the numbers is not taken unless it is clipped") {
  const Context context = test_context();
  Parameter p{"p", full(context, {3}, 1), {}, true};
  AdamW optimiser({{"p", &p}}, {.weight_decay = 0});
  const real huge = kDouble ? real(1e155) : real(1e21);
  const auto step = [&](real gradient, double clip) {
    p.gradient = Tensor(context, {3}, std::vector<real>{0, gradient, 1});
    return optimiser.step(0.1, clip);
  };
  const AdamW::Outcome refused = step(huge, kInfinity);
  CHECK(!refused.taken);
  if (!kDouble) CHECK(refused.gradient_norm == doctest::Approx(1e21));
  CHECK(p.value.to_vector() == std::vector<real>{1, 1, 1});
  CHECK(optimiser.state().moments[0].variance.to_vector() == std::vector<real>{0, 0, 0});
  // The largest that is taken, step after step, leaves numbers.
  for (int i = 0; i < 3; ++i)
    CHECK(step(static_cast<real>(kLongestGradient * 0.999), kInfinity).taken);
  for (const real x : optimiser.state().moments[0].variance.to_vector()) CHECK(std::isfinite(x));
  for (const real x : p.value.to_vector()) CHECK(std::isfinite(x));
  if (!kDouble) {
    CHECK(step(huge, 1).taken);
    for (const real x : p.value.to_vector()) CHECK(std::isfinite(x));
  }
}

TEST_CASE("adamw: a value, gradient or loss of another shape is refused and changes nothing") {
  const Context context = test_context();
  Parameter p{"p", random(context, {2, 3}, 1), {}, true};
  const Tensor value = p.value;
  const auto before = value.to_vector();
  AdamW optimiser({{"layer.p", &p}}, {});
  for (const Shape& wrong : {Shape{1}, {3, 2}, {6}, {1000}, {0}}) {
    p.gradient = zeros(context, wrong);
    check_refused<ShapeError>("layer.p", [&] { optimiser.step(0.1); });
    p.gradient = random(context, {2, 3}, 2);
    p.value = zeros(context, wrong);
    check_refused<ShapeError>("layer.p", [&] { optimiser.step(0.1); });
    p.value = value;
  }
  optimiser.prepare(0.1, 1);
  check_refused<ShapeError>("loss", [&] { optimiser.enqueue(zeros(context, {0})); });
  CHECK(same_bits(value.to_vector(), before));
  CHECK(optimiser.state().steps == 0);
  CHECK(optimiser.step(0.1).taken);
}

TEST_CASE("adamw: what shares a parameter's value changes with it, and a clone does not") {
  const Context context = test_context();
  Parameter p{"p", full(context, {2}, 1), {}, true};
  const Tensor shared = p.value, cloned = clone(p.value);
  AdamW optimiser({{"p", &p}}, {.weight_decay = 0});
  p.gradient = full(context, {2}, 1);
  CHECK(optimiser.step(0.5).taken);
  CHECK(shared.to_vector()[0] == doctest::Approx(0.5));
  CHECK(cloned.to_vector() == std::vector<real>{1, 1});
}

// As the kernels see them.
TEST_CASE("adamw: options that are none once they are reals are refused") {
  for (const AdamWOptions& options :
       {AdamWOptions{.eps = 1e-50}, AdamWOptions{.eps = 1e39}, AdamWOptions{.beta1 = 1 - 1e-9},
        AdamWOptions{.beta2 = 1 - 1e-9}})
    if (!kDouble) CHECK_THROWS_AS(AdamW({}, options), ValueError);
  CHECK_THROWS_AS(AdamW({}, {.eps = kInfinity}), ValueError);
  CHECK_THROWS_AS(AdamW({}, {.weight_decay = kInfinity}), ValueError);
}

TEST_CASE("adamw: the clip factor brings norms down and never up") {
  CHECK(clip_factor(0, 1) == 1);
  CHECK(clip_factor(0.5, 1) == 1);
  CHECK(std::abs(clip_factor(4, 1) - 0.25) < 1e-6);
  CHECK(clip_factor(4, 1) * 4 <= 1);
  CHECK(std::abs(clip_factor(1e6, 0.5) - 0.5e-6) < 1e-12);
}

TEST_CASE("schedule: linear warm-up, then half a cosine") {
  const Schedule lr{.peak = 2, .warmup = 4, .steps = 10};
  for (const int64_t step : {0, 1, 2, 3})
    CHECK(lr(step) == doctest::Approx(0.5 * double(step + 1)));
  CHECK(lr(4) == doctest::Approx(2));
  CHECK(lr(7) == doctest::Approx(1));
  CHECK(lr(9) == doctest::Approx(1 + std::cos(std::numbers::pi * 5 / 6)));
  for (int64_t step = 5; step <= 10; ++step) CHECK(lr(step) < lr(step - 1));
  CHECK(std::abs(lr(10)) < 1e-15);
  CHECK(std::abs(lr(1000)) < 1e-15);
}

TEST_CASE("schedule: down to another end than 0") {
  for (const Decline decline : {Decline::cosine, Decline::linear, Decline::none}) {
    const Schedule lr{.peak = 2, .warmup = 4, .steps = 10, .decline = decline, .end = 0.5};
    CHECK(lr(0) == 0.5);
    CHECK(lr(4) == 2);
    CHECK(lr(7) == doctest::Approx(decline == Decline::none ? 2 : 1.25));
    CHECK(lr(10) == doctest::Approx(decline == Decline::none ? 2 : 0.5));
    CHECK(lr(1000) == lr(10));
  }
}

TEST_CASE("schedule: without warm-up, and with nothing else") {
  const Schedule cosine{.peak = 3, .warmup = 0, .steps = 8};
  CHECK(cosine(0) == doctest::Approx(3));
  CHECK(cosine(4) == doctest::Approx(1.5));
  for (const int64_t warmup : {5, 7}) {
    const Schedule linear{.peak = 3, .warmup = warmup, .steps = 5};
    for (int64_t step = 0; step < warmup; ++step)
      CHECK(linear(step) == doctest::Approx(3 * double(step + 1) / double(warmup)));
    for (const int64_t step : {warmup, warmup + 1, warmup + 100}) CHECK(linear(step) == 3);
  }
}

}  // namespace fprnn::tests
