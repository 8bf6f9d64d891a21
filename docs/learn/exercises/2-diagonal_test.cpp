#include <doctest/doctest.h>
#include <fprnn/tasks/group.h>

#include <2-diagonal.h>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

namespace chapter2 {

namespace {

double dot(const Numbers& x, const Numbers& y) {
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

}  // namespace

TEST_CASE("2.1 two parities in one channel") {
  for (const std::string text : {"a", "b", "ab", "abba", "aab", "bbab", "babbaaabab"}) {
    const std::vector<char> word(text.begin(), text.end());
    const Numbers factors = factors_of_letters(word);
    REQUIRE(factors.size() == word.size());
    double state = 1;
    for (const double factor : factors) {
      CHECK(std::abs(factor) == 1);
      state *= factor;
    }
    const bool a_odd = std::count(word.begin(), word.end(), 'a') % 2 == 1;
    const bool b_odd = std::count(word.begin(), word.end(), 'b') % 2 == 1;
    if (a_odd != b_odd) CHECK(state == -1);
    if (!a_odd && !b_odd) CHECK(state == 1);
  }
}

TEST_CASE("2.2 the mirror between two vectors") {
  const Numbers x = {3, 4, 0, 12}, y = {0, -5, 12, 0};
  const Numbers u = mirror_between(x, y);
  REQUIRE(u.size() == 4);
  CHECK(dot(u, u) == doctest::Approx(1));
  for (size_t i = 0; i < 4; ++i) CHECK(x[i] - 2 * u[i] * dot(u, x) == doctest::Approx(y[i]));
}

TEST_CASE("2.3 a permutation as swaps") {
  for (const std::vector<int>& p : fprnn::group_named("S5").permutations) {
    const auto swaps = swaps_of(p);
    CHECK(swaps.size() <= 4);
    std::vector<int> places = {0, 1, 2, 3, 4};
    for (const auto& swap : swaps) std::swap(places.at(swap.first), places.at(swap.second));
    CHECK(places == p);
  }
}

TEST_CASE("2.4 the order of an element") {
  const fprnn::Group group = fprnn::group_named("A5");
  std::vector<int> counts(7);
  for (int a = 0; a < 60; ++a) ++counts.at(order_of(group.table, 60, a));
  CHECK(counts == std::vector<int>{0, 1, 15, 20, 0, 24, 0});
}

TEST_CASE("2.5 a counter modulo n") {
  for (const int n : {2, 3, 5, 12}) {
    const Numbers m = counter(n);
    REQUIRE(m.size() == 4);
    double x = 1, y = 0;
    for (int t = 1; t <= n; ++t) {
      const double before = x;
      x = m[0] * x + m[1] * y;
      y = m[2] * before + m[3] * y;
      const bool back = std::hypot(x - 1, y) < 1e-9;
      CHECK(back == (t == n));
      CHECK(std::hypot(x, y) == doctest::Approx(1));
    }
  }
}

}  // namespace chapter2
