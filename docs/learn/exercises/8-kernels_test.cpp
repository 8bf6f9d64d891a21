#include <doctest/doctest.h>

#include <8-kernels.h>

namespace chapter8 {

namespace {

constexpr Machine kMachine = {4e12, 60e12, 0.5e-6};

}  // namespace

TEST_CASE("8.1 the roofline") {
  CHECK(least_seconds(kMachine, {4e9}, {1e9}) == doctest::Approx(1e-3));
  CHECK(least_seconds(kMachine, {4e9}, {120e9}) == doctest::Approx(2e-3));
  // One kernel waits for bytes, the next one for arithmetic; together they could have shared the time.
  CHECK(least_seconds(kMachine, {4e9, 1}, {1, 60e9}) == doctest::Approx(2e-3));
  CHECK(least_seconds(kMachine, {}, {}) == 0);
}

TEST_CASE("8.2 steps ahead") {
  CHECK(steps_ahead(kMachine, 12288, 8) == 21);
  CHECK(steps_ahead(kMachine, 1e6, 8) == 1);
  CHECK(steps_ahead(kMachine, 1000, 20) == 100);
}

TEST_CASE("8.3 sequences of a block") {
  CHECK(sequences_of_block(256, 16, 227 * 1024) == 11);
  CHECK(sequences_of_block(256, 16, 4 * 256 * 16 + 4 * (256 * 16 + 768)) == 1);
  CHECK(sequences_of_block(1024, 16, 100 * 1024) == 0);
  CHECK(sequences_of_block(1024, 32, 100 * 1024) == 0);  // not even A
}

TEST_CASE("8.4 waiting for the slowest") {
  const BlockTime even = block_time(1, {{2, 2}, {3, 3}});
  CHECK(even.seconds == doctest::Approx(7));
  CHECK(even.waiting == doctest::Approx(0));
  const BlockTime uneven = block_time(1, {{1, 3}, {3, 2}});
  CHECK(uneven.seconds == doctest::Approx(8));
  CHECK(uneven.waiting == doctest::Approx(3.0 / 16));
}

}  // namespace chapter8
