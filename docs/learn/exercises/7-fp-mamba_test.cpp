#include <doctest/doctest.h>

#include <7-fp-mamba.h>

#include <cmath>
#include <numbers>

namespace chapter7 {

TEST_CASE("7.1 offset and gain") {
  const Step step{.x = {1, -1},
                  .z = {0.5, -2},
                  .dt = {0.1, 0.4},
                  .b = {0.6, 0.8, 0},
                  .c = {1, 0.5, -1},
                  .decay = {0.9, 0.8, 0.7, 0.6, 0.5, 0.4},
                  .H = {1, 2, 3, -1, 0, 2},
                  .skip = {1, 0.5},
                  .mixed_input = {0.3, 0.7}};
  const Equation got = equation_of(step);
  REQUIRE(got.gain.size() == 2);
  REQUIRE(got.offset.size() == 2);
  // The step itself, for two y with (I - Q) y = 0 and (1, 1): the second is larger by the gain.
  for (size_t d = 0; d < 2; ++d) {
    const auto entering = [&](double fed_back) {
      const double mixed = step.mixed_input[d] + fed_back;
      double v = step.skip[d] * mixed;
      for (size_t n = 0; n < 3; ++n)
        v += step.c[n] *
             (step.decay[d * 3 + n] * step.H[d * 3 + n] + step.dt[d] * mixed * step.b[n]);
      return v * step.z[d] / (1 + std::exp(-step.z[d]));
    };
    CHECK(got.offset[d] == doctest::Approx(entering(0)));
    CHECK(got.gain[d] == doctest::Approx(entering(1) - entering(0)));
  }
}

TEST_CASE("7.2 whole words") {
  CHECK(whole_words({1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}, 3) == doctest::Approx(1));
  CHECK(whole_words({1, 2, 3, 4, 5, 6}, {1, 0, 3, 4, 5, 6}, 3) == doctest::Approx(0.5));
  CHECK(whole_words({1, 2, 3, 4, 5, 6}, {1, 0, 3, 4, 5, 6}, 1) == doctest::Approx(5.0 / 6));
  CHECK(whole_words({1, 2, 3, 4}, {0, 2, 3, 0}, 2) == doctest::Approx(0));
}

TEST_CASE("7.3 the spectral radius") {
  CHECK(spectral_radius({0.5, 0, 0, -0.8}) == doctest::Approx(0.8));
  CHECK(spectral_radius({0, -2, 0.5, 0}) == doctest::Approx(1));       // eigenvalues i, -i
  CHECK(spectral_radius({0.5, 100, 0, 0.9}) == doctest::Approx(0.9));  // large, yet it corrects
  CHECK(spectral_radius({0.3, 0.4, -0.4, 0.3}) == doctest::Approx(0.5));
}

TEST_CASE("7.4 a memory that corrects itself") {
  for (const int k : {1, 2, 3, 6}) {
    const double apart = 2 * std::numbers::pi / k;
    for (int i = 0; i < k; ++i) {
      CHECK(std::cos(pulled(i * apart, k) - i * apart) == doctest::Approx(1).epsilon(1e-12));
      for (const double off : {-0.45, -0.2, 0.01, 0.3, 0.45}) {
        double angle = (i + off) * apart;
        CHECK(std::abs(pulled(angle + 1e-6, k) - pulled(angle, k)) < 1e-4);  // continuous
        for (int step = 0; step < 100; ++step) angle = pulled(angle, k);
        CHECK(std::abs(std::sin((angle - i * apart) / 2)) < 1e-6);
      }
    }
  }
}

}  // namespace chapter7
