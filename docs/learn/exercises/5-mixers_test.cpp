#include <doctest/doctest.h>

#include <5-mixers.h>

#include <cmath>

namespace chapter5 {

namespace {

const Mixer kTwo = {{{0.6, 0.8, 0}, {0, 0.6, -0.8}}, {1.9, 0.7}};
const Vector kV = {1, -2, 0.5};

void check_equal(const Vector& got, const Vector& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]));
}

}  // namespace

TEST_CASE("5.1 factors in order") {
  check_equal(apply({{{0.6, 0.8}}, {2}}, {1, 0}), {0.28, -0.96});
  check_equal(apply({{{0.6, 0.8}, {1, 0}}, {2, 2}}, {1, 0}), {-0.28, -0.96});
  check_equal(apply(kTwo, kV), {2.14, -0.19104, 0.11472});
  check_equal(apply({{}, {}}, kV), kV);
}

TEST_CASE("5.2 a mixer undone") {
  check_equal(undo({{{0.6, 0.8}}, {2}}, {0.28, -0.96}), {1, 0});
  check_equal(undo(kTwo, {2.14, -0.19104, 0.11472}), kV);
}

TEST_CASE("5.3 a rotation of two reflections") {
  const Vector x = {0, 0.6, 0.8}, y = {1, 0, 0}, across = {0, 0.8, -0.6};
  const Mixer found = rotation(x, y);
  REQUIRE(found.u.size() == 2);
  REQUIRE(found.a == Vector{2, 2});
  const auto moved = [&](Vector v) {
    for (size_t i = 0; i < 2; ++i) {
      double along = 0, length = 0;
      for (size_t d = 0; d < v.size(); ++d) along += found.u[i][d] * v[d];
      for (const double value : found.u[i]) length += value * value;
      CHECK(length == doctest::Approx(1));
      for (size_t d = 0; d < v.size(); ++d) v[d] -= 2 * along * found.u[i][d];
    }
    return v;
  };
  check_equal(moved(x), y);
  check_equal(moved(across), across);
}

TEST_CASE("5.4 reflections of a permutation") {
  CHECK(reflections({0, 1, 2}) == 0);
  CHECK(reflections({1, 0, 2}) == 1);
  CHECK(reflections({1, 2, 0}) == 2);
  CHECK(reflections({1, 0, 3, 2}) == 2);
  CHECK(reflections({1, 2, 3, 4, 0}) == 4);
}

TEST_CASE("5.5 a Kronecker product by its factors") {
  long multiply_adds = 0;
  const Vector left = {0, 1, 1, 0}, right = {1, 2, 0, 0, 1, 0, 3, 0, -1}, v = {1, 2, 3, 4, 5, 6};
  // V R = (10, 4, -3; 22, 13, -6), whose rows L^T exchanges.
  check_equal(kronecker(left, right, v, 2, 3, multiply_adds), {-21, -11, 9, -6, 1, 9});
  CHECK(multiply_adds == 2 * 3 * (2 + 3));
}

}  // namespace chapter5
