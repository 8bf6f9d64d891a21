// Tensors of more than 2^31 elements on the GPU, an op of each family: its last rows, which numbers of
// 32 bits do not reach, against the same op on the CPU on those rows alone. LARGE=1, needs about 50
// GB in float, twice that in double.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>

#include <cmath>
#include <functional>

#include "close.h"
#include "needs.h"
#include "op_table.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kBeyond = int64_t{1} << 31;
constexpr int64_t kColumns = 32, kRows = kBeyond / kColumns + 1000, kLast = 50;
constexpr int64_t kSteps = 2048, kChannels = 1024, kSequences = kBeyond / (kSteps * kChannels) + 1;
constexpr double kClose = kDouble ? 1e-11 : 1e-5;

// Rows of axis 0, the last of which are looked at.
using RowOp = std::function<Var(const Vars& rows, const Vars& weights)>;

class Large {
 public:
  // A tensor of these rows, drawn on the GPU.
  Tensor draw(const Shape& shape, real low = -1, real high = 1) {
    return uniform(gpu, shape, low, high, rng_);
  }
  static Tensor last_of(const Tensor& x, int64_t count) {
    return slice(x, 0, x.size(0) - count, x.size(0)).value();
  }
  void check(const std::string& name, const std::vector<Tensor>& rows,
             const std::vector<Tensor>& weights, int64_t count, const RowOp& op) {
    Vars all, last, here, there;
    for (const Tensor& x : rows) {
      all.push_back(x);
      last.push_back(last_of(x, count).on(cpu));
    }
    for (const Tensor& w : weights) {
      there.push_back(w);
      here.push_back(w.on(cpu));
    }
    const Tensor result = op(all, there).value();
    CHECK(std::max(result.elements(), rows[0].elements()) >= kBeyond);
    check_close(name, last_of(result, count).to_vector(), op(last, here).value().to_vector(),
                kClose);
  }

  const Context gpu = test_context(), cpu = host_context();

 private:
  Rng rng_{.seed = 2};
};

}  // namespace

TEST_CASE("large: random numbers and elementwise ops" * needs_large()) {
  Large on;
  const Tensor x = on.draw({kRows, kColumns});
  const auto last = Large::last_of(x, 2).to_vector();
  for (int64_t i = 0; i < 2 * kColumns; ++i)
    CHECK(last[i] == 2 * Rng{2}.uniform((kRows - 2) * kColumns + i) - 1);
  on.check("exp", {x}, {}, kLast, [](const Vars& in, const Vars&) { return exp(in[0]); });
  on.check("add", {x}, {on.draw({kColumns})}, kLast,
           [](const Vars& in, const Vars& w) { return add(in[0], w[0]); });
  const Tensor y = on.draw({kRows, kColumns});
  on.check("mul", {x, y}, {}, kLast, [](const Vars& in, const Vars&) { return mul(in[0], in[1]); });
}

TEST_CASE("large: reductions" * needs_large()) {
  Large on;
  const Tensor x = on.draw({kRows, kColumns});
  on.check("sum of rows", {x}, {}, kLast,
           [](const Vars& in, const Vars&) { return sum(in[0], -1); });
  // Down columns of few rows, so that the sums are near 2^31 elements apart from each other.
  const Tensor wide = x.reshaped({4, kRows * kColumns / 4});
  const auto sums = Large::last_of(sum(wide, 0).value(), 1000).to_vector();
  for (int64_t i = 0; i < 1000; ++i) {
    double expected = 0;
    for (int64_t row = 0; row < 4; ++row)
      expected += 2 * Rng{2}.uniform((row + 1) * wide.size(1) - 1000 + i) - 1;
    CHECK(std::abs(sums[i] - expected) < 1e-5);
  }
  // Of ones, whose sums are whole numbers.
  const Tensor ones = full(on.gpu, x.shape(), 1);
  CHECK(sum_of_squares(ones) == double(ones.elements()));
  CHECK(std::abs(double(sum(ones).value().to_vector()[0]) - double(ones.elements())) <
        1e-6 * double(ones.elements()));
  const Tensor lower = full(on.gpu, {kLast, kColumns}, -5);
  CHECK(max_abs(concat({ones, lower}, 0).value()) == 5);
}

TEST_CASE("large: products" * needs_large()) {
  Large on;
  const Tensor x = on.draw({kRows, kColumns});
  on.check("linear", {x}, {on.draw({kColumns, kColumns}), on.draw({kColumns})}, kLast,
           [](const Vars& in, const Vars& w) { return linear(in[0], w[0], w[1]); });
  on.check("batched_matmul", {x.reshaped({kRows / 8, 16, 16})}, {on.draw({1, 16, 16})}, kLast,
           [](const Vars& in, const Vars& w) {
             return batched_matmul(in[0], broadcast_to(w[0], in[0].shape()));
           });
}

TEST_CASE("large: norms" * needs_large()) {
  Large on;
  const Tensor x = on.draw({kRows, kColumns});
  on.check("layer_norm", {x}, {on.draw({kColumns}), on.draw({kColumns})}, kLast,
           [](const Vars& in, const Vars& w) { return layer_norm(in[0], w[0], w[1], real(1e-5)); });
  on.check("l2_normalize", {x}, {}, kLast,
           [](const Vars& in, const Vars&) { return l2_normalize(in[0], real(1e-5)); });
}

TEST_CASE("large: layout" * needs_large()) {
  Large on;
  const Tensor x = on.draw({kRows, kColumns}), few = on.draw({kLast, kColumns});
  const Tensor joined = concat({x, few}, 0).value();
  CHECK(Large::last_of(joined, kLast).to_vector() == few.to_vector());
  CHECK(slice(joined, 0, kRows - kLast, kRows).value().to_vector() ==
        Large::last_of(x, kLast).to_vector());
  on.check("concat of columns", {x, x}, {}, kLast, [](const Vars& in, const Vars&) {
    return concat({slice(in[0], -1, 5, 32), slice(in[1], -1, 0, 5)}, -1);
  });
  on.check("shift", {x.reshaped({kRows / 8, 8, kColumns})}, {}, kLast,
           [](const Vars& in, const Vars&) { return shift(in[0]); });
}

TEST_CASE("large: recurrences" * needs_large()) {
  Large on;
  const Shape shape{kSequences, kSteps, kChannels};
  on.check("scan", {on.draw(shape, 0, 1), on.draw(shape)}, {}, 1,
           [](const Vars& in, const Vars&) { return scan(in[0], in[1]); });
  const Shape states{kSequences, kSteps, 4};
  on.check(
      "selective_scan", {on.draw(shape), on.draw(shape, -3, 1), on.draw(states), on.draw(states)},
      {on.draw({kChannels, 4}, -2, real(-0.1)), on.draw({kChannels})}, 1,
      [](const Vars& in, const Vars& w) {
        return selective_scan(
                   {.u = in[0], .delta = in[1], .a = w[0], .b = in[2], .c = in[3], .skip = w[1]})
            .y;
      });
}

TEST_CASE("large: convolutions" * needs_large()) {
  Large on;
  on.check("causal_conv", {on.draw({kSequences, kSteps, kChannels})},
           {on.draw({kChannels, 4}), on.draw({kChannels})}, 1,
           [](const Vars& in, const Vars& w) { return causal_conv(in[0], w[0], w[1]); });
}

TEST_CASE("large: mixers" * needs_large()) {
  Large on;
  on.check("householder",
           {on.draw({kRows, kColumns}), on.draw({kRows, 1, kColumns}), on.draw({kRows, 1}, 0, 1)},
           {}, kLast,
           [](const Vars& in, const Vars&) { return householder(in[1], in[2], in[0], 1); });
}

TEST_CASE("large: tokens and their loss" * needs_large()) {
  Large on;
  const auto random_tokens = [](int64_t i) { return int32_t(Rng{6}.below(i, kColumns)); };
  std::vector<int32_t> tokens(kRows);
  for (int64_t i = 0; i < kRows; ++i) tokens[i] = random_tokens(i);
  const IntTensor all(on.gpu, {kRows}, tokens);
  const IntTensor last(on.cpu, {kLast}, std::span(tokens).last(kLast));
  const Tensor table = on.draw({kColumns, kColumns});
  const Tensor rows = embedding(table, all).value();
  CHECK(Large::last_of(rows, kLast).to_vector() ==
        embedding(table.on(on.cpu), last).value().to_vector());

  // The last rows alone count.
  std::vector<real> mask(kRows);
  std::ranges::fill(std::span(mask).last(kLast), real(1));
  const Var loss = masked_cross_entropy(rows, all, Tensor(on.gpu, {kRows}, mask));
  const Var expected =
      masked_cross_entropy(Large::last_of(rows, kLast).on(on.cpu), last, full(on.cpu, {kLast}, 1));
  check_close("loss", loss.value().to_vector(), expected.value().to_vector(), kClose);
}

}  // namespace fprnn::tests
