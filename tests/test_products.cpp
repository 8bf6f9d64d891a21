// Matrix products: a row's bits do not depend on how many rows stand beside it, whichever loop makes
// them (ops/gemm_few_rows.h, ops/gemm_kernel.cpp).
#include <doctest/doctest.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/matmul.h>

#include <limits>

#include "context.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kMost = 40;  // rows, more than any loop for few of them takes
constexpr real kUntouched = 7;
constexpr real kInfinity = std::numeric_limits<real>::infinity();

enum class Start { zero, bias, c };

struct Product {
  int64_t N, K;
  Start start;
};

// (rows, columns) of random numbers, and behind each row one that must not be read.
Tensor padded(const Context& context, int64_t rows, int64_t columns, Rng& rng) {
  std::vector<real> x = uniform(context, {rows, columns + 1}, -1, 1, rng).to_vector();
  for (int64_t i = 0; i < rows; ++i)
    x[i * (columns + 1) + columns] = std::numeric_limits<real>::quiet_NaN();
  return {context, {rows, columns + 1}, x};
}

// The product of the first M rows, and behind each row what is not its own.
std::vector<real> multiply(const Context& context, const Product& of, int64_t M) {
  const auto [N, K, start] = of;
  Rng rng{.seed = 3};
  const Tensor a = padded(context, kMost, K, rng), b = padded(context, N, K, rng);
  const Tensor bias = uniform(context, Shape{N}, -1, 1, rng);
  // Of one row and one column of C: times zero, as what must be left out may become, it is NaN.
  if (K > 3) a.data()[3] = b.data()[3] = kInfinity;
  const Tensor c = full(context, {M, N + 1}, kUntouched);
  launch(context, Gemm{.a = a.data(),
                       .b = b.data(),
                       .bias = start == Start::bias ? bias.data() : nullptr,
                       .c = c.data(),
                       .M = M,
                       .N = N,
                       .K = K,
                       .lda = K + 1,
                       .ldb = K + 1,
                       .ldc = N + 1,
                       .transpose_b = true,
                       .accumulate = start == Start::c});
  return c.to_vector();
}

}  // namespace

TEST_CASE("products: a row has the same bits with any number of rows beside it") {
  for (const Context& context : contexts_of_every_isa())
    for (const int64_t N : {1, 5, 16, 33, 70})
      for (const int64_t K : {1, 3, 4, 7, 8, 15, 16, 17, 31, 64, 300})
        for (const Start start : {Start::zero, Start::bias, Start::c}) {
          const Product of{N, K, start};
          const std::vector<real> all = multiply(context, of, kMost);
          for (int64_t M = 1; M <= 9; ++M) {
            const std::vector<real> some = multiply(context, of, M);
            const bool same = same_bits(some, {all.begin(), all.begin() + M * (N + 1)});
            CHECK_MESSAGE(same, describe(context.isa())
                                    << ", N " << N << ", K " << K << ", rows " << M);
            for (int64_t i = 0; i < M; ++i) CHECK(some[i * (N + 1) + N] == kUntouched);
          }
        }
}

}  // namespace fprnn::tests
