#include <doctest/doctest.h>

#include <3-fixed-point.h>
#include <cmath>

namespace chapter3 {

TEST_CASE("3.1 the solution of a step") {
  const Numbers offset = {2, 1, -4}, u = {2.0 / 3, -1.0 / 3, 2.0 / 3};
  for (const double factor : {0.5, -0.5, -1.0, 1.8}) {
    const Numbers y = solution(offset, u, factor);
    REQUIRE(y.size() == 3);
    const double p = u[0] * y[0] + u[1] * y[1] + u[2] * y[2];
    for (size_t i = 0; i < 3; ++i) CHECK(offset[i] + factor * p * u[i] == doctest::Approx(y[i]));
  }
}

TEST_CASE("3.2 one iteration over a sequence") {
  const Numbers lambda = {0.5, 0.5, 0.25}, q = {0.5, 0.75, 0.5}, b = {2, 4, 8};
  const Numbers first = iterated(lambda, q, b, {0, 0, 0});
  CHECK(first == Numbers{1, 3.5, 4.875});
  CHECK(iterated(lambda, q, b, first) == Numbers{1.5, 4.625, 7.59375});
  Numbers h = first;
  for (int i = 0; i < 100; ++i) h = iterated(lambda, q, b, h);
  double state = 0;  // h_t = lambda_t / q_t h_{t-1} + b_t
  for (size_t t = 0; t < 3; ++t) {
    state = lambda[t] / q[t] * state + b[t];
    CHECK(h.at(t) == doctest::Approx(state));
  }
}

TEST_CASE("3.3 the dense transition of the gated recurrence") {
  const double lambda0 = 0.75, lambda1 = 0.5;
  const Matrix2 q = {0.8, -0.3, 0.1, 0.6};
  const Matrix2 a = transition(lambda0, lambda1, q);
  double x = 3, y = -2;  // h_t from h_{t-1} = (3, -2), by iteration
  for (int i = 0; i < 200; ++i) {
    const double mixed_x = (1 - q[0]) * x - q[1] * y, mixed_y = -q[2] * x + (1 - q[3]) * y;
    x = lambda0 * 3 + (1 - lambda0) * mixed_x;
    y = lambda1 * -2 + (1 - lambda1) * mixed_y;
  }
  CHECK(a[0] * 3 + a[1] * -2 == doctest::Approx(x));
  CHECK(a[2] * 3 + a[3] * -2 == doctest::Approx(y));
}

TEST_CASE("3.4 how many iterations") {
  CHECK(iterations_needed(0.5, 1e-3) == 10);
  CHECK(iterations_needed(0.5, 0.125) == 3);
  CHECK(iterations_needed(0.9, 1e-4) == 88);
  CHECK(iterations_needed(0.01, 0.5) == 1);
}

TEST_CASE("3.5 the best damping") {
  for (const double least : {-3.0, -1.0, 0.0})
    for (const double most : {0.25, 0.75}) {
      const double d = best_damping(least, most);
      const auto slowest = [&](double damping) {
        return std::max(std::abs(1 - damping * (1 - least)), std::abs(1 - damping * (1 - most)));
      };
      CHECK(slowest(d) < 1);
      CHECK(slowest(d) < slowest(0.99 * d));
      CHECK(slowest(d) < slowest(1.01 * d));
    }
}

}  // namespace chapter3
