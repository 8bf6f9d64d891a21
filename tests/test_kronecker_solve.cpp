// The local equation of a Kronecker mixer: its solution put into the public ops that it is made of.
#include <doctest/doctest.h>
#include <fprnn/core/rng.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/kronecker_solve.h>
#include <fprnn/ops/norm.h>

#include <cmath>
#include <limits>

#include "close.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr real kSolved = kDouble ? real(1e-12) : real(1e-6);

KroneckerProblem random_problem(const Context& context, int64_t tokens, int64_t D, bool normalised,
                                bool rms = false) {
  Rng rng{7, 0};
  const KroneckerSizes sizes = kronecker_sizes(D);
  const auto draw = [&](const Shape& shape) { return uniform(context, shape, -1, 1, rng); };
  const KroneckerFactors q =
      kronecker_factors(draw({tokens, sizes.triangles()}),
                        affine(draw({tokens, sizes.m1 + sizes.m2}), real(0.25), real(0.3)), D,
                        KroneckerNorm::row_spectral, real(1e-5));
  KroneckerProblem problem{.left = q.left.value(),
                           .right = q.right.value(),
                           .offset = draw({tokens, D}),
                           .gain = draw({tokens, D})};
  if (normalised) {
    problem.weight = affine(draw({D}), real(0.2), 1).value();
    if (!rms) problem.bias = draw({D});
  }
  return problem;
}

// N(offset + gain . ((I - Q) y)).
Tensor local_map(const KroneckerProblem& p, const Tensor& y) {
  const Var mixed = sub(y, kronecker({p.left, p.right}, y, p.scale));
  const Var x = add(p.offset, mul(p.gain, mixed));
  return any_norm(x, p.weight, p.bias, p.eps).value();
}

}  // namespace

TEST_CASE("kronecker solve: y solves its equation") {
  const Context context = test_context();
  for (const int64_t D : {1, 5, 12, 33, 128})
    for (const int norms : {0, 1, 2}) {  // none, LayerNorm, RMS
      const KroneckerProblem problem = random_problem(context, 9, D, norms > 0, norms == 2);
      const LocalSolution solution = kronecker_solve(problem, kSolved, 2000);
      const std::vector<real> f = local_map(problem, solution.y).to_vector(),
                              y = solution.y.to_vector();
      for (int64_t token = 0; token < 9; ++token) {
        CHECK(solution.iterations[token] < 2000);
        real difference = 0, size = 0;
        for (int64_t i = token * D; i < (token + 1) * D; ++i) {
          difference = std::max(difference, std::abs(f[i] - y[i]));
          size = std::max(size, std::abs(f[i]));
        }
        CHECK_MESSAGE(difference <= 4 * kSolved * (size + real(1e-8)), D << " token " << token);
      }
    }
}

TEST_CASE("kronecker solve: where plain steps do not get there") {
  const Context context = test_context();
  const real tolerance = kDouble ? real(1e-9) : real(1e-4);
  for (const int64_t D : {12, 32, 128, 256})
    for (const bool normalised : {true, false})
      for (const real gain : {20, 200}) {
        // 64 vectors are not the whole space of 256 channels: 1 of 50 tokens is lost.
        if (D > kKrylovLong && gain > 20) continue;
        KroneckerProblem problem = random_problem(context, 50, D, normalised);
        problem.gain = affine(problem.gain, gain, 0).value();
        if (normalised) problem.offset = affine(problem.offset, real(0.01), 0).value();
        const LocalSolution solution = kronecker_solve(problem, tolerance, 400);
        const std::vector<real> f = local_map(problem, solution.y).to_vector(),
                                y = solution.y.to_vector();
        for (int64_t token = 0; token < 50; ++token) {
          CHECK_MESSAGE(solution.iterations[token] < 400, D << " gain " << gain);
          real difference = 0, size = 0;
          for (int64_t i = token * D; i < (token + 1) * D; ++i) {
            difference = std::max(difference, std::abs(f[i] - y[i]));
            size = std::max(size, std::abs(f[i]));
          }
          // local_map's own rounding, a large gain's, is in it.
          CHECK_MESSAGE(difference <= 4 * tolerance * (size + real(1e-8)), D << " token " << token);
        }
      }
}

TEST_CASE("kronecker solve: factors near the identity, and next to no offset") {
  // A space that is as good as whole after few vectors: the last subdiagonals are next to 0. Next to no offset:
  // sigma is an eigenvalue to the last bit, and floats may not tell it from its neighbours, which
  // must then be said.
  const Context context = test_context();
  const real tolerance = kDouble ? real(1e-9) : real(1e-4);
  constexpr int64_t kTokens = 6;
  for (const int64_t D : {4, 16, 64, 256})
    for (const real near : {real(1e-3), real(1e-4), real(3e-5), real(1e-5)})
      for (const real offset : {real(1), real(1e-7), real(1e-9)}) {
        KroneckerProblem problem = random_problem(context, kTokens, D, true);
        const auto factors = [&](int64_t m, real random) {
          Rng rng{11, 0};
          std::vector<real> x = uniform(context, {kTokens, m, m}, -1, 1, rng).to_vector();
          for (int64_t i = 0; i < kTokens * m * m; ++i)
            x[i] = x[i] * random + (i % (m * m) / m == i % m ? 1 : 0);
          return Tensor(context, {kTokens, m, m}, x);
        };
        const KroneckerSizes sizes = kronecker_sizes(D);
        problem.left = factors(sizes.m1, 0);
        problem.right = factors(sizes.m2, near);
        problem.gain = affine(problem.gain, 0, real(1.5)).value();
        problem.offset = affine(problem.offset, offset, 0).value();
        problem.weight = affine(problem.weight, 0, 1).value();
        problem.bias = affine(problem.bias, 0, 0).value();
        const LocalSolution solution = kronecker_solve(problem, tolerance, 400);
        const std::vector<real> f = local_map(problem, solution.y).to_vector(),
                                y = solution.y.to_vector();
        for (int64_t token = 0; token < kTokens; ++token) {
          real difference = 0, size = 0;
          for (int64_t i = token * D; i < (token + 1) * D; ++i) {
            CHECK(std::isfinite(y[i]));
            difference = std::max(difference, std::abs(f[i] - y[i]));
            size = std::max(size, std::abs(f[i]));
          }
          const bool solved = difference <= 4 * tolerance * (size + real(1e-8));
          const bool said = solution.iterations[token] == 400;
          CHECK_MESSAGE((solved || (said && offset < 1)),
                        D << " near " << near << " offset " << offset << ": " << difference);
        }
      }
}

TEST_CASE("kronecker solve: tokens do not meet, NaN stays with its own") {
  const Context context = test_context();
  KroneckerProblem problem = random_problem(context, 4, 12, true);
  const std::vector<real> before = kronecker_solve(problem, kSolved, 500).y.to_vector();
  exchange_element(problem.offset, 0, std::numeric_limits<real>::quiet_NaN());
  const LocalSolution broken = kronecker_solve(problem, kSolved, 500);
  const std::vector<real> after = broken.y.to_vector();
  CHECK(std::isnan(after[0]));
  CHECK(broken.iterations[0] == 500);
  CHECK(std::equal(before.begin() + 12, before.end(), after.begin() + 12));
}

TEST_CASE("kronecker solve: what it refuses") {
  const Context context = test_context();
  const KroneckerProblem problem = random_problem(context, 2, 12, true);
  CHECK_THROWS_AS(kronecker_solve(problem, -1, 5), ValueError);
  CHECK_THROWS_AS(kronecker_solve(problem, std::numeric_limits<real>::quiet_NaN(), 5), ValueError);
  CHECK_THROWS_AS(kronecker_solve(problem, 1, 0), ValueError);
  KroneckerProblem wrong = problem;
  wrong.left = problem.right;
  CHECK_THROWS_AS(kronecker_solve(wrong, 1, 5), ShapeError);
  wrong = problem;
  wrong.weight = Tensor();
  CHECK_THROWS_AS(kronecker_solve(wrong, 1, 5), ShapeError);
  wrong = problem;
  wrong.gain = problem.bias;
  CHECK_THROWS_AS(kronecker_solve(wrong, 1, 5), ShapeError);
}

}  // namespace fprnn::tests
