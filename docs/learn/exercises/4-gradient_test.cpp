#include <doctest/doctest.h>

#include <4-gradient.h>
#include <cmath>

namespace chapter4 {

TEST_CASE("4.1 the slopes of a scalar solution") {
  const auto solved = [](double w, double x) {
    double y = 0;
    for (int i = 0; i < 500; ++i) y = std::tanh(w * y + x);
    return y;
  };
  constexpr double kStep = 1e-5;
  for (const double w : {-0.9, 0.0, 0.5, 0.9}) {
    const double x = 0.4, y = solved(w, x);
    const Slopes got = slopes(w, y);
    CHECK(got.to_x == doctest::Approx((solved(w, x + kStep) - solved(w, x - kStep)) / (2 * kStep)));
    CHECK(got.to_w == doctest::Approx((solved(w + kStep, x) - solved(w - kStep, x)) / (2 * kStep)));
  }
}

TEST_CASE("4.2 central differences") {
  int calls = 0;
  const auto f = [&](const Numbers& x) {
    ++calls;
    return x[0] * x[0] * x[1] + 3 * x[2];
  };
  const Numbers got = central_differences(f, {2, 5, -1}, 0.125);
  REQUIRE(got.size() == 3);
  CHECK(got[0] == doctest::Approx(20));
  CHECK(got[1] == doctest::Approx(4));
  CHECK(got[2] == doctest::Approx(3));
  CHECK(calls == 6);
}

TEST_CASE("4.3 the adjoint by iteration") {
  int products = 0;
  const auto contracting = [&](const Numbers& v) {
    ++products;
    return Numbers{0.5 * v[1], -0.25 * v[0] + 0.5 * v[1]};
  };
  const Numbers g = {1, 2}, v = adjoint(g, contracting, 1e-10, 100);
  CHECK(products < 100);
  REQUIRE(v.size() == 2);
  CHECK(g[0] + 0.5 * v[1] == doctest::Approx(v[0]));
  CHECK(g[1] - 0.25 * v[0] + 0.5 * v[1] == doctest::Approx(v[1]));
  products = 0;
  const auto growing = [&](const Numbers& w) {
    ++products;
    return Numbers{2 * w[0], w[1]};
  };
  CHECK(adjoint(g, growing, 1e-10, 20).empty());
  CHECK(products == 20);
}

TEST_CASE("4.4 the adjoint of a step at once") {
  const Numbers g = {1, -2, 0.5}, gain = {0.75, -1, 2}, u = {2.0 / 3, 1.0 / 3, -2.0 / 3};
  for (const double factor : {0.5, 1.5, -3.0}) {
    const Numbers v = adjoint_of_step(g, gain, factor, u);
    REQUIRE(v.size() == 3);
    for (size_t j = 0; j < 3; ++j) {
      double right = g[j];
      for (size_t i = 0; i < 3; ++i) right += gain[i] * factor * u[i] * u[j] * v[i];
      CHECK(v[j] == doctest::Approx(right));
    }
  }
}

}  // namespace chapter4
