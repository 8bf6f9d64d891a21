#include <doctest/doctest.h>

#include <1-scan.h>

namespace chapter1 {

namespace {

const Numbers kA = {0.5, -2, 1.5, 0.25, 3}, kB = {1, 2, -1, 0.5, 4}, kWeights = {1, -1, 2, 0.5, -3};
constexpr double kStart = 1.75;

double loss(const Numbers& a, const Numbers& b, double start) {
  double state = start, sum = 0;
  for (size_t t = 0; t < a.size(); ++t) {
    state = a[t] * state + b[t];
    sum += kWeights[t] * state;
  }
  return sum;
}

// What `loss` does around one of its arguments: it is linear in each.
template <class Loss>
double slope(double& argument, const Loss& loss) {
  const double value = argument;
  argument = value + 1;
  const double above = loss();
  argument = value - 1;
  const double below = loss();
  argument = value;
  return (above - below) / 2;
}

}  // namespace

TEST_CASE("1.1 a step repeated") {
  for (const long n : {0, 1, 2, 3, 10, 37}) {
    Step expected;
    for (long i = 0; i < n; ++i) expected = {-0.9 * expected.a, -0.9 * expected.b + 2};
    const Step got = repeated({-0.9, 2}, n);
    CHECK(got.a == doctest::Approx(expected.a));
    CHECK(got.b == doctest::Approx(expected.b));
  }
  const Step one_more_each_time = repeated({1, 1}, 1'000'000'000'000'000);
  CHECK(one_more_each_time.a == 1);
  CHECK(one_more_each_time.b == 1e15);
}

TEST_CASE("1.2 the scan from the end") {
  CHECK(scan_from_end({3, 2, 5}, {1, 1, 7}) == Numbers{46, 15, 7});
  CHECK(scan_from_end({}, {}).empty());
}

TEST_CASE("1.3 packed sequences") {
  const std::vector<bool> starts = {true, false, false, true, false};
  const Numbers factors = factors_of_packed(kA, starts);
  REQUIRE(factors.size() == kA.size());
  double packed = 100, alone = 100;  // whatever stands before the first sequence
  for (size_t t = 0; t < kA.size(); ++t) {
    packed = factors[t] * packed + kB[t];
    alone = kA[t] * (starts[t] ? 0 : alone) + kB[t];
    CHECK(packed == alone);
  }
}

TEST_CASE("1.4 the gradients of a scan with a start") {
  Numbers a = kA, b = kB, h;
  double start = kStart, state = start;
  for (size_t t = 0; t < a.size(); ++t) h.push_back(state = a[t] * state + b[t]);
  const Gradients got = scan_gradients(a, h, start, kWeights);
  REQUIRE(got.da.size() == a.size());
  REQUIRE(got.db.size() == a.size());
  const auto here = [&] { return loss(a, b, start); };
  for (size_t t = 0; t < a.size(); ++t) {
    CHECK(got.da[t] == doctest::Approx(slope(a[t], here)));
    CHECK(got.db[t] == doctest::Approx(slope(b[t], here)));
  }
  CHECK(got.dstart == doctest::Approx(slope(start, here)));
}

}  // namespace chapter1
