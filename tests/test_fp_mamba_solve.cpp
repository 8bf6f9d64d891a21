// The local solve against the equation itself: Q factor by factor and the LayerNorm, in plain loops
// over double, from the very numbers that the op was given.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/ops/fp_mamba_solve.h>
#include <fprnn/ops/norm.h>

#include <cmath>

#include "close.h"
#include "local_equation.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr double kExact = kDouble ? 1e-10 : 1e-5;  // where rounding is all that is left
constexpr real kTolerance = kDouble ? real(1e-12) : real(1e-6);
constexpr int64_t kCap = 400, kTokens = 4;

struct Setting {
  int64_t r, D;
  bool in_order, normalised;
  real scale;
  bool rms = false;  // instead of a LayerNorm

  std::string name() const {
    return fmt::format("{} r {} D {} scale {}{}", in_order ? "householder" : "dplr", r, D, scale,
                       rms          ? " RMS"
                       : normalised ? ""
                                    : " without LayerNorm");
  }
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const int64_t r : {1, 2, 3, 4, 6})
    for (const int64_t D : {1, 5, 16, 33, 128})
      for (int bits = 0; r <= D && bits < 16; ++bits)
        if (const bool rms = (bits & 8) != 0, normalised = (bits & 2) != 0; normalised || !rms)
          all.push_back(
              {r, D, (bits & 1) != 0, normalised, (bits & 4) != 0 ? real(2) : real(1), rms});
  return all;
}

Tensor between(const Context& context, const Shape& shape, uint64_t stream, real low, real high) {
  Rng rng{77, stream};
  return uniform(context, shape, low, high, rng);
}

LocalProblem problem_of(const Context& context, const Setting& of, const Shape& leading) {
  const Shape rows = leading.appended(of.D);
  LocalProblem problem{.u = random(context, leading.appended(of.r).appended(of.D), 1),
                       .alpha = between(context, leading.appended(of.r), 2, real(0.1), real(0.9)),
                       .offset = random(context, rows, 3, 2),
                       .gain = between(context, rows, 4, real(0.1), real(0.9)),
                       .scale = of.scale,
                       .in_order = of.in_order};
  problem.u = l2_normalize(problem.u, real(1e-12)).value();
  if (of.normalised) {
    problem.weight = between(context, {of.D}, 5, real(0.7), real(1.3));
    if (!of.rms) problem.bias = random(context, {of.D}, 6, real(0.3));
  }
  return problem;
}

// y = N(A + S . ((I - Q) y)) pushes back with the strength `gain`, which is negative.
LocalProblem pushing_back(const Context& context, int64_t r, real gain) {
  LocalProblem problem =
      problem_of(context, {.r = r, .D = 33, .in_order = true, .normalised = true, .scale = 1}, {8});
  problem.gain = between(context, {8, 33}, 9, gain, real(0.8) * gain);
  return problem;
}

}  // namespace

TEST_CASE("local solve: y satisfies the equation") {
  const Context context = test_context();
  for (const Setting& setting : settings()) {
    const LocalProblem problem = problem_of(context, setting, {2, kTokens / 2});
    const auto [y, iterations] = local_solve(problem, kTolerance, kCap);
    CHECK(y.shape() == problem.offset.shape());
    REQUIRE(iterations.size() == kTokens);
    for (int64_t token = 0; token < kTokens; ++token) {
      const double residual = Equation(problem, token).residual(part(y, token, setting.D));
      CHECK_MESSAGE(residual <= kExact, setting.name() << ": " << residual);
      CHECK_MESSAGE(iterations[size_t(token)] < kCap, setting.name());
      CHECK((setting.normalised || iterations[size_t(token)] == 1));
    }
  }
}

TEST_CASE("local solve: the root is the one that plain iteration from 0 finds") {
  const Context context = test_context();
  int64_t compared = 0, all = 0;
  for (const Setting& setting : settings()) {
    if (!setting.normalised) continue;
    const LocalProblem problem = problem_of(context, setting, {kTokens});
    const auto [y, iterations] = local_solve(problem, kTolerance, kCap);
    for (int64_t token = 0; token < kTokens; ++token, ++all) {
      const Equation equation(problem, token);
      const Vector plain = equation.iterated(100);
      if (equation.residual(plain) > 1e-12) continue;
      check_close(setting.name(), part(y, token, setting.D), plain, 10 * kExact);
      ++compared;
    }
  }
  CHECK(compared > all * 3 / 4);
}

TEST_CASE("local solve: stopped after n iterations, y is what n maps of 0 are") {
  const Context context = test_context();
  const Setting setting{.r = 2, .D = 16, .in_order = true, .normalised = true, .scale = 1};
  const LocalProblem problem = problem_of(context, setting, {kTokens});
  for (const int count : {1, 2, 4}) {
    const auto [y, iterations] = local_solve(problem, 0, count);
    CHECK(iterations == std::vector<int32_t>(kTokens, count));
    for (int64_t token = 0; token < kTokens; ++token)
      check_close(fmt::format("{} iterations", count), part(y, token, setting.D),
                  Equation(problem, token).iterated(count), kExact);
  }
}

TEST_CASE("local solve: strong negative feedback converges where plain iteration oscillates") {
  const Context context = test_context();
  for (const int64_t r : {1, 2, 4, 6}) {
    const LocalProblem problem = pushing_back(context, r, -6);
    const auto [y, iterations] = local_solve(problem, kTolerance, kCap);
    int64_t oscillating = 0;
    for (int64_t token = 0; token < 8; ++token) {
      const Equation equation(problem, token);
      oscillating += equation.residual(equation.iterated(2000)) > 1e-3;
      CHECK(iterations[size_t(token)] < kCap);
      CHECK(equation.residual(part(y, token, 33)) <= 10 * kExact);
    }
    CHECK(oscillating >= 4);
  }
}

// Offsets so small that F is nearly a step, and reflections, among which the iteration often goes round its root
// for ever: the equation in sigma has a root for each of them.
TEST_CASE("local solve: what the iteration does not lead to is found") {
  const Context context = test_context();
  constexpr int64_t kMany = 4096, kFew = 64;
  for (const int64_t r : {1, 2, 4, 6})
    for (const bool in_order : {false, true})
      for (const bool reflections : {false, true}) {
        const Setting setting{
            .r = r, .D = 64, .in_order = in_order, .normalised = true, .scale = 2};
        LocalProblem problem = problem_of(context, setting, {kMany});
        problem.offset = random(context, {kMany, setting.D}, 3, reflections ? 1 : real(0.02));
        problem.gain = reflections ? between(context, {kMany, setting.D}, 4, real(0.9), real(1.1))
                                   : between(context, {kMany, setting.D}, 4, -3, 3);
        const auto [y, iterations] = local_solve(problem, real(1e-4), kFew);
        CHECK_MESSAGE(std::ranges::count(iterations, kFew) == 0, setting.name());
        CHECK(std::ranges::count_if(iterations, [](int32_t count) { return count > 32; }) > 0);
        for (int64_t token = 0; token < kMany; token += 512)
          CHECK(Equation(problem, token).residual(part(y, token, setting.D)) <= 2e-4);
      }
}

TEST_CASE("local solve: where the iteration leads nowhere it is the root with the largest sigma") {
  const Context context = test_context();
  constexpr int64_t D = 33;
  for (const int64_t r : {1, 2, 4}) {
    const LocalProblem problem = pushing_back(context, r, -6);
    const auto [y, iterations] = local_solve(problem, kTolerance, kCap);
    int64_t compared = 0;
    for (int64_t token = 0; token < 8; ++token) {
      const Equation equation(problem, token);
      if (equation.residual(equation.iterated(100)) < 1e-3) continue;
      ++compared;
      double root = 0, there = 0;
      equation.centred(part(y, token, D), root);
      for (double sigma = 1.01 * root; sigma < 20 * root; sigma *= 1.1) {
        equation.centred(equation.at(sigma), there);
        CHECK_MESSAGE(there < sigma, "rank " << r << ": " << root << " and " << sigma);
      }
    }
    CHECK(compared >= 4);
  }
}

// sigma^2 is then a difference of far larger numbers: counted as converged is only what is. Few
// channels, so that A and W can cancel; the first token is one that somebody met.
TEST_CASE(
    "local solve: where sigma nearly vanishes, what counts as converged satisfies the equation") {
  const Context context = test_context();
  constexpr int64_t kMany = 4096, D = 2, kFew = 200;
  constexpr real kNear = real(1e-4);
  // The judge on a GPU has floats.
  const double allowed = (context.device() == DeviceKind::cuda ? 3 : 1.06) * kNear;
  const auto first_then = [&](const std::vector<real>& first, const Tensor& others) {
    std::vector<real> values = others.to_vector();
    std::ranges::copy(first, values.begin());
    return Tensor(context, others.shape(), values);
  };
  const Tensor u = l2_normalize(random(context, {kMany, 1, D}, 21), real(1e-12)).value();
  const LocalProblem problem{
      .u = first_then({real(-.915822148), real(.401584148)}, u),
      .alpha = first_then({real(.75)}, between(context, {kMany, 1}, 22, real(.1), real(.9))),
      .offset =
          first_then({real(-.793344676), real(-2.68037081)}, random(context, {kMany, D}, 23, 3)),
      .gain =
          first_then({real(-2.83670139), real(-1.46303773)}, random(context, {kMany, D}, 24, 3)),
      .weight = full(context, {D}, 1),
      .bias = zeros(context, {D}),
      .scale = 2};
  const auto [y, iterations] = local_solve(problem, kNear, kFew);
  int64_t missed = 0;
  for (int64_t token = 0; token < kMany; ++token) {
    const double residual = Equation(problem, token).residual(part(y, token, D));
    if (iterations[size_t(token)] == kFew)
      ++missed;
    else
      CHECK_MESSAGE(residual <= allowed, "token " << token << ": " << residual);
  }
  CHECK_MESSAGE(missed <= kMany / 4, missed);
}

TEST_CASE("local adjoint: the transposed dense system's solution") {
  const Context context = test_context();
  for (const Setting& setting : settings()) {
    const LocalProblem problem = problem_of(context, setting, {kTokens});
    const Tensor y = local_solve(problem, kTolerance, kCap).y;
    const Tensor w = random(context, y.shape(), 8);
    const Tensor v = local_adjoint(problem, y, w);
    CHECK(v.shape() == w.shape());
    for (int64_t token = 0; token < kTokens; ++token)
      check_close(setting.name(), part(v, token, setting.D),
                  dense_adjoint(Equation(problem, token), part(y, token, setting.D),
                                part(w, token, setting.D)),
                  kDouble ? 1e-9 : 1e-4);
  }
}

TEST_CASE("local solve: a token's bits are its own, on any number of threads") {
  for (const bool normalised : {false, true})
    for (const int64_t r : {1, 3, 6}) {
      const Setting setting{
          .r = r, .D = 33, .in_order = true, .normalised = normalised, .scale = 2};
      const LocalProblem whole = problem_of(context_with(1), setting, {150});
      const auto [y, iterations] = local_solve(whole, kTolerance, 50);
      const auto v = local_adjoint(whole, y, whole.gain).to_vector();
      for (const int threads : {2, 3}) {
        const LocalProblem same = problem_of(context_with(threads), setting, {150});
        const LocalSolution solution = local_solve(same, kTolerance, 50);
        CHECK(same_bits(solution.y.to_vector(), y.to_vector()));
        CHECK(solution.iterations == iterations);
        CHECK(same_bits(local_adjoint(same, solution.y, same.gain).to_vector(), v));
      }
      const auto one = [&](const Tensor& of, int64_t token, const Shape& shape) {
        const auto all = of.to_vector();
        const auto from = all.begin() + token * shape.elements();
        return Tensor(of.context(), shape, std::vector(from, from + shape.elements()));
      };
      for (const int64_t token : {0, 7, 149}) {
        LocalProblem alone = whole;
        alone.u = one(whole.u, token, {r, 33}), alone.alpha = one(whole.alpha, token, {r});
        alone.offset = one(whole.offset, token, {33}), alone.gain = one(whole.gain, token, {33});
        const Tensor its_y = one(y, token, {33});
        check_same_alone(setting.name(), local_solve(alone, kTolerance, 50).y.to_vector(),
                         its_y.to_vector());
        check_same_alone(setting.name() + ", adjoint",
                         local_adjoint(alone, its_y, alone.gain).to_vector(),
                         std::vector(v.begin() + token * 33, v.begin() + (token + 1) * 33));
      }
    }
}

// Of threads of the CPU.
TEST_CASE("local solve: from within a parallel region") {
  const Setting setting{.r = 2, .D = 33, .in_order = true, .normalised = true, .scale = 1};
  std::vector<std::vector<real>> results(4);
#pragma omp parallel for num_threads(4)
  for (int i = 0; i < 4; ++i) {
    const LocalProblem problem = problem_of(host_context(2), setting, {60});
    results[size_t(i)] = local_solve(problem, kTolerance, 50).y.to_vector();
  }
  for (const auto& result : results) CHECK(same_bits(result, results[0]));
}

TEST_CASE("local solve: NaN stays in its token, no tokens are no work") {
  const Context context = test_context();
  for (const bool normalised : {false, true})
    for (const int64_t r : {1, 2, 6}) {
      const Setting setting{
          .r = r, .D = 16, .in_order = true, .normalised = normalised, .scale = 1};
      for (int input = 0; input < 4; ++input) {
        const LocalProblem problem = problem_of(context, setting, {3});
        const Tensor* inputs[] = {&problem.u, &problem.alpha, &problem.offset, &problem.gain};
        exchange_element(*inputs[input], inputs[input]->elements() / 3, real(std::nan("")));
        const auto [y, iterations] = local_solve(problem, kTolerance, kCap);
        const Tensor v = local_adjoint(problem, y, random(context, y.shape(), 8));
        const auto is_nan = [](const Tensor& x, int64_t token) {
          return std::isnan(dot(part(x, token, 16), Vector(16, 1)));
        };
        for (int64_t token = 0; token < 3; ++token) {
          CHECK(is_nan(y, token) == (token == 1));
          // The adjoint of the linear problem knows nothing of A.
          CHECK(is_nan(v, token) == (token == 1 && (normalised || input != 2)));
        }
        if (normalised) CHECK(iterations[1] == kCap);
      }
      const LocalProblem none = problem_of(context, setting, {0});
      const auto [y, iterations] = local_solve(none, kTolerance, kCap);
      CHECK(y.shape() == Shape{0, 16});
      CHECK(iterations.empty());
      CHECK(local_adjoint(none, y, y).shape() == y.shape());
    }
}

TEST_CASE("local solve: what does not fit is refused") {
  const Context context = test_context();
  const Setting setting{.r = 2, .D = 5, .in_order = true, .normalised = true, .scale = 1};
  const LocalProblem good = problem_of(context, setting, {3});
  const auto refused = [&](const auto& spoil) {
    LocalProblem bad = good;
    spoil(bad);
    CHECK_THROWS_AS(local_solve(bad, 0, 5), ShapeError);
    CHECK_THROWS_AS(local_adjoint(bad, good.offset, good.offset), ShapeError);
  };
  refused([&](LocalProblem& bad) { bad.u = random(context, {2, 2, 5}, 1); });
  refused([&](LocalProblem& bad) { bad.u = random(context, {5}, 1); });
  refused([&](LocalProblem& bad) { bad.alpha = random(context, {3, 1}, 1); });
  refused([&](LocalProblem& bad) { bad.gain = random(context, {3, 4}, 1); });
  refused([&](LocalProblem& bad) { bad.weight = random(context, {4}, 1); });
  refused([&](LocalProblem& bad) { bad.weight = Tensor(); });
  refused([&](LocalProblem& bad) {
    bad.u = random(context, {3, 6, 5}, 1), bad.alpha = random(context, {3, 6}, 1);
  });
  CHECK_THROWS_AS(local_adjoint(good, good.alpha, good.offset), ShapeError);
  CHECK_THROWS_AS(local_adjoint(good, good.offset, good.alpha), ShapeError);
  constexpr real kInf = std::numeric_limits<real>::infinity();
  for (const real tolerance : {real(-1), kInf, real(std::nan(""))})
    CHECK_THROWS_AS(local_solve(good, tolerance, 5), ValueError);
  for (const int64_t cap : {int64_t{0}, int64_t{-1}, int64_t{1} << 31})
    CHECK_THROWS_AS(local_solve(good, 0, cap), ValueError);
  LocalProblem bad = good;
  bad.scale = kInf;
  CHECK_THROWS_AS(local_solve(bad, 0, 5), ValueError);
  bad = good, bad.eps = -1;
  CHECK_THROWS_AS(local_adjoint(bad, good.offset, good.offset), ValueError);
}

}  // namespace fprnn::tests
