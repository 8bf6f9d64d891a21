// Random numbers, memory, shapes, errors and the ungraded vector helpers.
#include <doctest/doctest.h>
#include <fprnn/core/parallel.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "close.h"
#include "context.h"

namespace fprnn::tests {

namespace {

constexpr real kNan = std::numeric_limits<real>::quiet_NaN();
constexpr real kHuge = std::numeric_limits<real>::infinity();

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("core: sizes whose products or sums do not fit, or fill no machine, are typed errors") {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const Context context = test_context();
  CHECK(host_vector<int32_t>({2, 3}) == std::vector<int32_t>(6));
  CHECK(message_of([] {
          host_vector<double>({1 << 20, 1 << 30, 1 << 12});
        }) == "[tensor] the host must hold the elements, got (1048576, 1073741824, 4096)");
  CHECK_THROWS_AS(host_vector<real>({kMost}), MemoryError);
  CHECK_THROWS_AS(host_vector<real>({kMost, 2}), ShapeError);
  CHECK_THROWS_AS(Tensor(context, {kMost}), MemoryError);
  const Var long_and_empty = zeros(context, {kMost / 2 + 1, 0});
  CHECK_THROWS_AS(concat({long_and_empty, long_and_empty}, 0), ShapeError);
  CHECK_THROWS_AS(conv_state(zeros(context, {0, 3, 1}), kMost), ShapeError);
  CHECK_THROWS_AS(kronecker_sizes(kMost), ValueError);
}

TEST_CASE("core: a child of fork() computes with one thread") {
  const Context context = host_context(2);
  const Tensor x = full(context, Shape{100'000}, 1);
  CHECK(sum(x).value().to_vector().front() == 100'000);  // by both threads
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    const Tensor y = full(Context::cpu({.threads = 1}), Shape{100'000}, 2);
    _exit(sum(y).value().to_vector().front() == 200'000 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

// The known answers that come with Random123 (kat_vectors, philox4x32 10).
TEST_CASE("rng: Philox4x32-10 gives the published numbers") {
  constexpr uint32_t kOnes = 0xffffffff;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) ==
        PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
        PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("rng: seed, stream and index go where Philox has its key and counter") {
  const Rng rng{.seed = 0x299f31d0a4093822, .stream = 0x0370734413198a2e};
  const uint64_t block = 0x05a308d3243f6a88;  // a number of a block of four words
  const PhiloxBlock words =
      philox({0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0});
  for (uint64_t word = 0; word < 4; ++word) CHECK(rng.bits(4 * block + word) == words[word]);
}

TEST_CASE("rng: uniform numbers lie in their range and have its moments") {
  const Rng rng{7, 3};
  double mean = 0, square = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double value = rng.uniform(i);
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    REQUIRE(rng.below(i, 60) < 60);
    mean += value / kCount;
    square += value * value / kCount;
  }
  // Four standard deviations of the means.
  CHECK(std::abs(mean - 1.0 / 2) < 4 * std::sqrt(1.0 / 12 / kCount));
  CHECK(std::abs(square - 1.0 / 3) < 4 * std::sqrt(4.0 / 45 / kCount));
  CHECK(rng.below(0, uint64_t{1} << 32) == rng.bits(0));
}

TEST_CASE("rng: numbers below n come equally often") {
  const Rng rng{11, 0};
  int count[7] = {};
  for (int i = 0; i < 70000; ++i) ++count[rng.below(i, 7)];
  for (const int times : count) CHECK(std::abs(times - 10000) < 400);
}

TEST_CASE("rng: tensors do not depend on threads, and each takes a fresh stream") {
  const Shape shape{3, 11111};
  std::vector<std::vector<real>> draws[2];
  for (const int threads : {1, 3}) {
    const Context context = context_with(threads);
    Rng rng{42, 0};
    auto& list = draws[threads / 2];
    list.push_back(uniform(context, shape, -2, 3, rng).to_vector());
    list.push_back(normal(context, shape, 1, 2, rng).to_vector());
    list.push_back(uniform(context, shape, -2, 3, rng).to_vector());
    CHECK(rng.stream == 3);
    CHECK(uniform(context, Shape{0}, 0, 1, rng).elements() == 0);
  }
  CHECK(draws[0] == draws[1]);
  CHECK(draws[0][0] != draws[0][2]);
  for (const real value : draws[0][0]) REQUIRE((value >= -2 && value <= 3));
}

TEST_CASE("rng: normal numbers have the moments of their distribution") {
  const Context context = test_context();
  Rng rng{5, 0};
  const auto values = normal(context, Shape{200000}, 1, 2, rng).to_vector();
  double moments[5] = {};
  for (const double value : values) {
    REQUIRE(std::isfinite(value));
    for (int power = 1; power <= 4; ++power)
      moments[power] += std::pow((value - 1) / 2, power) / double(values.size());
  }
  // Four standard deviations: the variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
  const double expected[] = {0, 0, 1, 0, 3}, variance[] = {0, 1, 2, 15, 96};
  for (int power = 1; power <= 4; ++power)
    CHECK(std::abs(moments[power] - expected[power]) <
          4 * std::sqrt(variance[power] / double(values.size())));
}

TEST_CASE("memory: blocks are used again") {
  const Context context = test_context();
  const auto step = [&] {
    const Tensor a(context, Shape{1000}), b(context, Shape{3, 7}), empty(context, Shape{0});
    const Tensor c = full(context, Shape{1001}, 1);
  };
  step();
  const MemoryStatistics first = context.memory().statistics();
  CHECK(first.bytes_in_use == 0);
  CHECK(first.bytes_reserved > 0);
  for (int repeat = 0; repeat < 5; ++repeat) step();
  const MemoryStatistics last = context.memory().statistics();
  CHECK(last.system_allocations == first.system_allocations);
  CHECK(last.peak_bytes == first.peak_bytes);
  context.memory().trim();
  CHECK(context.memory().statistics().bytes_reserved == 0);
}

TEST_CASE("memory: blocks are aligned and waste at most a fifth") {
  const Context context = test_context();
  for (int64_t bytes = 0; bytes < 5000; bytes += 7) {
    const int64_t before = context.memory().statistics().bytes_in_use;
    void* block = context.memory().allocate(bytes);
    CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
    const int64_t size = context.memory().statistics().bytes_in_use - before;
    CHECK(size >= bytes);
    CHECK((size <= 256 || double(size - bytes) < 0.2 * double(size)));
    context.memory().release(block, bytes);
  }
}

TEST_CASE("memory: beyond the limit is refused, and all stays usable") {
  const Context context = context_with(1, 1 << 20);
  const Tensor kept = full(context, Shape{1000}, 3);
  {
    const Tensor unused(context, Shape{kDouble ? 50000 : 100000});
  }  // its block must be given up for the next
  { const Tensor other(context, Shape{kDouble ? 110000 : 220000}); }
  const std::string text = message_of([&] { Tensor(context, Shape{1000000}); });
  CHECK(text.rfind("[memory] the byte limit must hold the request", 0) == 0);
  CHECK(text.find("got 1048576, ") != std::string::npos);
  CHECK_THROWS_AS(Tensor(context, Shape{1000000}), MemoryError);
  CHECK(kept.to_vector() == std::vector<real>(1000, 3));
  CHECK(full(context, Shape{100}, 2).to_vector() == std::vector<real>(100, 2));
}

TEST_CASE("memory: requests beyond the address space are refused") {
  const Context context = test_context();
  CHECK_THROWS_AS(Tensor(context, Shape{int64_t{1} << 62}), MemoryError);
  CHECK_THROWS_AS(context.memory().allocate(-1), MemoryError);
  CHECK_THROWS_AS(context.memory().allocate(std::numeric_limits<int64_t>::max()), MemoryError);
}

TEST_CASE("memory: tensors outlive the handle of their Context") {
  Tensor tensor;
  CHECK(!tensor.defined());
  {
    const Context context = test_context();
    tensor = full(context, Shape{5}, 7);
  }
  CHECK(tensor.to_vector() == std::vector<real>(5, 7));
  CHECK(clone(tensor).to_vector() == std::vector<real>(5, 7));
}

TEST_CASE("memory: fresh and returned blocks are poisoned") {
  const Context context = test_context();
  for (int repeat = 0; repeat < 2; ++repeat) {
    const Tensor tensor(context, Shape{100});
    for (const real value : tensor.to_vector()) CHECK(std::isnan(value));
    copy(full(context, Shape{100}, 1), tensor);
  }
}

TEST_CASE("shape: axes, sizes and what may not be") {
  const Shape shape{2, 3, 4};
  CHECK(shape.rank() == 3);
  CHECK(shape.elements() == 24);
  CHECK(shape[-1] == 4);
  CHECK(shape.with(1, 7) == Shape{2, 7, 4});
  CHECK(shape.without(0) == Shape{3, 4});
  CHECK(shape.appended(5) == Shape{2, 3, 4, 5});
  CHECK((shape.elements_before(-1) == 6 && shape.elements_after(0) == 12));
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{5, 0, 2}.elements() == 0);
  CHECK(describe(shape) == "(2, 3, 4)");
  CHECK(describe(Shape{}) == "()");
  CHECK(message_of([&] { shape[3]; }) ==
        "[shape] an axis must exist in the shape, got 3 and (2, 3, 4)");
  CHECK(message_of([] { Shape{2, -1}; }) == "[shape] sizes must not be negative, got -1");
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1}.appended(1)), ShapeError);
  CHECK_THROWS_AS((Shape{int64_t{1} << 32, int64_t{1} << 31}), ShapeError);
  CHECK(Shape{int64_t{1} << 31, int64_t{1} << 31}.elements() == int64_t{1} << 62);
}

TEST_CASE("tensor: values must fill the shape") {
  const Context context = test_context();
  const std::vector<real> values{1, 2, 3, 4, 5, 6};
  const Tensor tensor(context, Shape{2, 3}, values);
  CHECK(tensor.reshaped(Shape{3, 2}).to_vector() == values);
  CHECK(tensor.reshaped(Shape{3, 2}).data() == tensor.data());
  CHECK(message_of([&] {
          Tensor(context, Shape{2, 2}, values);
        }) == "[tensor] there must be one value for each element, got 6 and (2, 2)");
  CHECK_THROWS_AS(tensor.reshaped(Shape{7}), ShapeError);
}

TEST_CASE("shape: a zero does not hide sizes whose product does not fit") {
  CHECK_THROWS_AS((Shape{0, int64_t{1} << 62, 4}), ShapeError);
  CHECK(Shape{3, 0, 5}.elements() == 0);
}

TEST_CASE("tensor: an empty one is refused wherever its elements are needed") {
  const Tensor empty;
  CHECK(!empty.defined());
  CHECK_THROWS_AS(empty.data(), UsageError);
  CHECK_THROWS_AS(empty.context(), UsageError);
  CHECK_THROWS_AS(exp(Var()), UsageError);
  CHECK_THROWS_AS(linear(zeros(test_context(), {2, 3}), Var()), Error);
}

TEST_CASE("errors: tag, rule and values") {
  CHECK(message_of([] { require(false, "op", "rule"); }) == "[op] rule");
  CHECK(message_of([] { require(false, "op", "rule", 3); }) == "[op] rule, got 3");
  CHECK(message_of([] { require(false, "op", "rule", Shape{2}, true); }) ==
        "[op] rule, got (2) and true");
  CHECK(message_of([] { require(false, "op", "rule", 0.5, "text", int64_t{-7}); }) ==
        "[op] rule, got 0.5, 'text' and -7");
  CHECK_NOTHROW(require(true, "op", "rule", 1));
  CHECK_THROWS_AS(require<ValueError>(false, "op", "rule"), ValueError);
  CHECK_THROWS_AS(require(false, "op", "rule"), ShapeError);
  CHECK(UsageError("op", "rule").tag() == "op");
}

TEST_CASE("context: instruction sets and options are checked") {
  CHECK(isa_named("baseline") == Isa::baseline);
  CHECK(isa_named(describe(best_isa())) == best_isa());
  CHECK(message_of([] { isa_named("sse9"); }) ==
        "[context] instruction sets are baseline, avx2 and avx512, got 'sse9'");
  if (best_isa() != Isa::avx512) {
    CHECK_THROWS_AS(isa_named("avx512"), ValueError);
    CHECK_THROWS_AS(Context::cpu({.isa = Isa::avx512}), ValueError);
  }
  CHECK_THROWS_AS(Context::cpu({.threads = -1}), ValueError);
  CHECK_THROWS_AS(Context::cpu({.byte_limit = -1}), ValueError);
  CHECK(Context::cpu({.threads = 3}).threads() == 3);
  CHECK(Context::cpu().threads() >= 1);
}

TEST_CASE("parallel: every piece once, with borders that do not depend on threads") {
  for (const int threads : {1, 2, 3}) {
    const Context context = host_context(threads);
    for (const int64_t count : {0, 1, 7, 100}) {
      std::vector<int> visits(count), borders(count);
      parallel_for(Cpu{context}, count, 8, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          ++visits[i];
          borders[i] = begin == i / 8 * 8 && end == std::min(count, begin + 8);
        }
      });
      CHECK(borders == std::vector<int>(count, 1));
      CHECK(visits == std::vector<int>(count, 1));
    }
  }
}

namespace {

const std::vector<int64_t> kRaggedSizes{
    0,  1,  2,  3,  7,   8,    9,    15,     16,         17,
    31, 33, 63, 65, 127, 1000, 1025, kGrain, kGrain + 1, 3 * kGrain + 5};

}  // namespace

TEST_CASE("vector helpers: sums of squares and largest magnitudes of every size") {
  const Context context = test_context(), alone = context_with(1);
  Rng rng{3, 0};
  for (const int64_t size : kRaggedSizes) {
    const auto values = uniform(context, Shape{size}, -3, 2, rng).to_vector();
    const Tensor x(context, Shape{size}, values), other(alone, Shape{size}, values);
    double squares = 0, largest = 0;
    for (const double value : values) {
      squares += value * value;
      largest = std::max(largest, std::abs(value));
    }
    CHECK(std::abs(sum_of_squares(x) - squares) <= 1e-13 * squares);
    CHECK(sum_of_squares(x) == sum_of_squares(other));
    CHECK(double(max_abs(x)) == largest);
  }
}

TEST_CASE("vector helpers: one NaN anywhere shows, and so does infinity") {
  const Context context = test_context();
  for (const int64_t size : kRaggedSizes) {
    // Each lane of the first registers, the borders of pieces and the end.
    for (const int64_t at : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{13}, size / 2, kGrain - 1,
                             kGrain, size - 1}) {
      if (at < 0 || at >= size) continue;
      std::vector<real> values(size, 2);
      values[at] = kNan;
      CHECK(std::isnan(max_abs(Tensor(context, Shape{size}, values))));
      CHECK(std::isnan(sum_of_squares(Tensor(context, Shape{size}, values))));
      values[at] = -kHuge;
      CHECK(max_abs(Tensor(context, Shape{size}, values)) == kHuge);
      values[size / 3] = kNan;  // before or after infinity
      CHECK(std::isnan(max_abs(Tensor(context, Shape{size}, values))));
    }
  }
}

TEST_CASE("vector helpers: the larger of two is NaN if either is") {
  CHECK(larger_or_nan(1.0, 2.0) == 2);
  CHECK(larger_or_nan(2.0, 1.0) == 2);
  CHECK(std::isnan(larger_or_nan<real>(kNan, kHuge)));
  CHECK(std::isnan(larger_or_nan<real>(kHuge, kNan)));
}

TEST_CASE("vector helpers: fill, clone, copy and add of every size") {
  const Context context = test_context();
  for (const int64_t size : kRaggedSizes) {
    const Tensor x = full(context, Shape{size}, 2), y = clone(x);
    CHECK((size == 0 || x.data() != y.data()));
    add_in_place(y, x);
    CHECK(y.to_vector() == std::vector<real>(size, 4));
    CHECK(x.to_vector() == std::vector<real>(size, 2));
    copy(zeros(context, Shape{size}), y);
    CHECK(y.to_vector() == std::vector<real>(size, 0));
  }
  CHECK_THROWS_AS(add_in_place(zeros(context, {2}), zeros(context, {3})), ShapeError);
  CHECK_THROWS_AS(copy(zeros(context, {2}), zeros(context, {3})), ShapeError);
}

}  // namespace fprnn::tests
