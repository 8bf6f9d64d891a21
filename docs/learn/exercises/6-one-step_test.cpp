#include <doctest/doctest.h>

#include <6-one-step.h>

#include <cmath>

namespace chapter6 {

namespace {

double along(const Vector& x, const Vector& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

}  // namespace

TEST_CASE("6.1 a step without a norm") {
  const Vector offset = {1, 2, -1}, gain = {0.5, -3, 2}, u = {0.6, 0, 0.8};
  const Vector y = solve_linear(offset, gain, u, 1.7);
  REQUIRE(y.size() == 3);
  for (size_t d = 0; d < 3; ++d)
    CHECK(y[d] == doctest::Approx(offset[d] + gain[d] * 1.7 * u[d] * along(u, y)));
}

TEST_CASE("6.2 the largest root") {
  // Crosses 1 at 2, 3 and 5.5, and is below 1 beyond.
  const auto three = [](double sigma) {
    return 1 - (sigma - 2) * (sigma - 3) * (sigma - 5.5) / 50;
  };
  CHECK(largest_root(three, 0.1, 9, 0.9) == doctest::Approx(5.5).epsilon(1e-9));
  const auto one = [](double sigma) { return 0.5 / sigma; };
  CHECK(largest_root(one, 0.1, 100, 1) == doctest::Approx(0.5).epsilon(1e-9));
}

TEST_CASE("6.3 attracts or repels") {
  CHECK(attracts([](double x) { return std::cos(x); }, 0.7390851332151607));
  CHECK(!attracts([](double x) { return 3.2 * x * (1 - x); }, 1 - 1 / 3.2));  // slope -1.2
  CHECK(!attracts([](double x) { return 2 * x; }, 0));
  CHECK(attracts([](double x) { return -0.9 * x; }, 0));
}

TEST_CASE("6.4 the adjoint in two numbers") {
  const Vector w = {1, -1, 2, 0.5}, w1 = {0.2, 0, 1, 0.3}, w2 = {-0.5, 0.4, 0, 1};
  const Vector u1 = {1, 0.5, -0.2, 0}, u2 = {0, 1, 0.3, -0.6};
  const Vector v = adjoint(w, w1, w2, u1, u2);
  REQUIRE(v.size() == 4);
  for (size_t d = 0; d < 4; ++d)
    CHECK(v[d] == doctest::Approx(w[d] + u1[d] * along(w1, v) + u2[d] * along(w2, v)));
}

}  // namespace chapter6
