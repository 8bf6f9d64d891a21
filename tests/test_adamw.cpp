// The optimiser against a plain loop in double, and the learning-rate schedule.
#include <doctest/doctest.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/adamw.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "close.h"
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
