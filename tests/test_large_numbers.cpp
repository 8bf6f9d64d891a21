// Numbers that leave no room for a careless sum: so large or small that their squares overflow or
// underflow, nearly equal but far from 0, infinite, or 0 with a sign. The truth is the formula in
// long double, on the very numbers that the op is given.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/gated_norm.h>

#include <cmath>
#include <limits>
#include <optional>

#include "close.h"
#include "context.h"
#include "needs.h"
#include "run_case.h"

namespace fprnn::tests {

namespace {

using Wide = long double;
using Wides = std::vector<Wide>;
using Reals = std::vector<real>;

constexpr double kClose = tolerance(5e-14, 2e-6);  // sums of up to 4100 terms
constexpr real kInf = std::numeric_limits<real>::infinity(),
               kMax = std::numeric_limits<real>::max(), kMin = std::numeric_limits<real>::min();
// Squares of these overflow or underflow.
const Reals kLarge = kDouble ? Reals{real(1e160), real(1e300)} : Reals{real(1e20), real(1e37)},
            kSmall = kDouble ? Reals{real(1e-170), real(1e-290)} : Reals{real(1e-25), real(1e-36)};
const std::vector<int64_t> kWidths{2, 3, 7, 16, 33, 64, 1000, 2048, 4100};

// count numbers of [-size, size] around a centre.
Reals around(real center, real size, int64_t count, uint64_t stream) {
  const Rng rng{.seed = 11, .stream = stream};
  Reals x(count);
  for (int64_t i = 0; i < count; ++i) x[i] = center + size * (2 * rng.uniform(i) - 1);
  return x;
}

// The same, each multiplied, so that lengths are ordinary.
template <class X>
std::vector<double> times(Wide factor, const std::vector<X>& x) {
  std::vector<double> y;
  for (const X value : x) y.push_back(static_cast<double>(factor * value));
  return y;
}

Wide sum_of(int64_t count, const auto& term) {
  Wide total = 0;
  for (int64_t i = 0; i < count; ++i) total += term(i);
  return total;
}

struct NormTruth {
  Wides y, dx, direct;  // the last before what cancels it
};
// Of one row.
NormTruth norm_truth(Norm norm, const Reals& x, const Reals& weight, const Reals& bias,
                     const Reals& dy, Wide eps) {
  const int64_t D = x.size();
  // In two parts: a Wide tells numbers far from 0 apart, but not their mean from its rounding.
  const auto mean_of = [&](Wide from) {
    return sum_of(D, [&](auto i) { return x[i] - from; }) / D;
  };
  const Wide near = norm == Norm::layer ? mean_of(0) : Wide{0};
  const Wide rest = norm == Norm::layer ? mean_of(near) : Wide{0};
  const auto deviation = [&](int64_t i) { return x[i] - near - rest; };
  const Wide squares = sum_of(D, [&](auto i) { return deviation(i) * deviation(i); });
  const bool l2 = norm == Norm::l2, short_row = l2 && std::sqrt(squares) <= eps;
  const Wide scale = l2 ? 1 / std::max(std::sqrt(squares), eps) : 1 / std::sqrt(squares / D + eps);
  const auto n = [&](int64_t i) { return deviation(i) * scale; };
  const auto g = [&](int64_t i) { return Wide{weight[i]} * dy[i]; };
  const Wide shift = norm == Norm::layer ? sum_of(D, g) / D : Wide{0};
  const Wide pull =
      short_row ? Wide{0} : sum_of(D, [&](auto i) { return g(i) * n(i); }) / (l2 ? 1 : D);
  NormTruth truth;
  for (int64_t i = 0; i < D; ++i) {
    truth.y.push_back(n(i) * weight[i] + bias[i]);
    truth.dx.push_back(scale * (g(i) - shift - n(i) * pull));
    truth.direct.push_back(scale * g(i));
  }
  return truth;
}

using NormOp = std::function<Var(const Vars&)>;  // of x, weight, bias

// y and dx of one row beside an ordinary one. Gradients are compared times `size`.
void check_norm(const std::string& name, Norm norm, const Reals& x, real eps, Wide size,
                const NormOp& op) {
  const int64_t D = x.size();
  const bool affine = norm != Norm::l2, centred = norm == Norm::layer;
  Values inputs{x, affine ? around(0, 1, D, 2) : Reals(D, 1),
                centred ? around(0, 1, D, 3) : Reals(D)};
  const Reals weight = inputs[1], bias = inputs[2], ordinary = around(0, 1, D, 4);
  inputs[0].insert(inputs[0].end(), ordinary.begin(), ordinary.end());
  const OpCase entry{.op = name,
                     .inputs = {{{2, D}}, {{D}}, {{D}}},
                     .apply = [&](const Vars& in) { return Vars{op(in)}; },
                     .reference = {}};
  for (const Context& context : contexts_of_every_kind()) {
    const Result result = run_case(context, entry, inputs);
    for (const size_t row : {0, 1}) {
      const auto part = [&](const Reals& of) {
        return Reals(of.begin() + row * D, of.begin() + (row + 1) * D);
      };
      const NormTruth truth =
          norm_truth(norm, part(inputs[0]), weight, bias, part(result.seeds[0]), eps);
      const std::string where = fmt::format("{} of {} numbers, eps {}, row {} on {}", name, D, eps,
                                            row, describe(context));
      check_close(where, part(result.outputs[0]), truth.y, kClose);
      const Wide by = row == 0 ? size : Wide{1};
      check_close(where + ", gradient", times(by, part(result.gradients[0])), times(by, truth.dx),
                  2 * kClose, length(times(by, truth.direct)));
    }
  }
}

NormOp layer_norm_of(real eps) {
  return [=](const Vars& in) { return layer_norm(in[0], in[1], in[2], eps); };
}
NormOp gated_norm_of(real eps) {
  return [=](const Vars& in) { return gated_norm(in[0], Var(), in[1], in[2], eps); };
}
NormOp rms_norm_of(real eps) {
  return [=](const Vars& in) { return rms_norm(in[0], in[1], eps); };
}
NormOp l2_normalize_of(real eps) {
  return [=](const Vars& in) { return l2_normalize(in[0], eps); };
}

}  // namespace

TEST_CASE("large numbers: norms of rows whose squares overflow") {
  for (const real size : kLarge)
    for (const int64_t D : kWidths)
      for (const real eps : {real(1e-5), real(0)}) {
        const Reals x = around(0, size, D, D);
        check_norm("layer_norm", Norm::layer, x, eps, size, layer_norm_of(eps));
        check_norm("gated_norm", Norm::layer, x, eps, size, gated_norm_of(eps));
        check_norm("rms_norm", Norm::rms, x, eps, size, rms_norm_of(eps));
        if (eps > 0) check_norm("l2_normalize", Norm::l2, x, eps, size, l2_normalize_of(eps));
      }
}

TEST_CASE("large numbers: norms of rows whose squares underflow, where eps is smaller still") {
  for (const real size : kSmall)
    for (const int64_t D : kWidths) {
      const Reals x = around(0, size, D, D);
      check_norm("layer_norm", Norm::layer, x, 0, size, layer_norm_of(0));
      check_norm("gated_norm", Norm::layer, x, 0, size, gated_norm_of(0));
      check_norm("rms_norm", Norm::rms, x, 0, size, rms_norm_of(0));
      check_norm("l2_normalize", Norm::l2, x, kMin, size, l2_normalize_of(kMin));
      // And where it is not.
      check_norm("rms_norm", Norm::rms, x, real(1e-5), 1, rms_norm_of(real(1e-5)));
      check_norm("l2_normalize", Norm::l2, x, real(1e-5), 1, l2_normalize_of(real(1e-5)));
    }
}

TEST_CASE("large numbers: LayerNorm of a constant row is 0 before weight and bias") {
  const real eps = real(1e-5);
  const auto check_zero = [&](int64_t D, real value) {
    for (const Context& context : contexts_of_every_kind())
      for (const bool gated : {false, true}) {
        const Tensor x = full(context, {3, D}, value), one = full(context, {D}, 1),
                     zero = zeros(context, {D});
        const Var y = gated ? gated_norm(x, Var(), one, zero, eps) : layer_norm(x, one, zero, eps);
        CHECK_MESSAGE(max_abs(y.value()) == 0, D << " numbers " << value << " on "
                                                 << describe(context) << ", gated " << gated);
      }
  };
  check_zero(3, real(1000.1));
  check_zero(7, real(50000.7));
  for (const int64_t D : kWidths)
    for (const real value : {real(0.1), real(-1000.1), real(50000.7), real(-1e9), kLarge[0]})
      check_zero(D, value);
}

// With deviations that numbers so far from 0 can just tell apart.
TEST_CASE("large numbers: LayerNorm of rows far from 0") {
  const real eps = real(1e-5);
  const real last_place = std::numeric_limits<real>::epsilon();
  for (const real center : {real(1000.1), real(-50000.7), real(1e9), kLarge[0]})
    for (const int64_t D : kWidths)
      for (const real part : {real(0), 8 * last_place, real(1e-3)}) {
        const Wide size = std::max<Wide>(Wide{part} * std::abs(center), 1e-3L);
        check_norm("layer_norm", Norm::layer, around(center, part * center, D, D), eps, size,
                   layer_norm_of(eps));
      }
}

TEST_CASE("large numbers: weights normalised by rows of any size") {
  for (const real size : {real(1), kLarge[0], kLarge[1], kSmall[0], kSmall[1]})
    for (const int64_t K : kWidths)
      check_norm("weight_norm", Norm::l2, around(0, size, K, K), kMin, size, [](const Vars& in) {
        return weight_norm(full(in[0].context(), {2, 1}, 1), in[0]);
      });
}

namespace {

// E times a power of two has the same K, as long as eps counts for nothing.
void check_factors(int64_t D, KroneckerNorm norm, real scale) {
  const KroneckerSizes sizes = kronecker_sizes(D);
  const auto with_eps = [&](real eps) {
    return OpCase{.op = "kronecker_factors",
                  .inputs = {{{3, sizes.triangles()}}, {{3, sizes.m1 + sizes.m2}, 0.1, 0.9}},
                  .apply =
                      [=](const Vars& in) {
                        const auto [left, right] = kronecker_factors(in[0], in[1], D, norm, eps);
                        return Vars{left, right};
                      },
                  .reference = {}};
  };
  const OpCase entry = with_eps(scale > 1 ? real(1e-6) : kMin), ordinary = with_eps(real(1e-15));
  const Values inputs = draw_inputs(entry);
  Values large = inputs;
  // The middle token is an ordinary one.
  const auto factor = [&](size_t i) { return i / sizes.triangles() == 1 ? real(1) : scale; };
  for (size_t i = 0; i < large[0].size(); ++i) large[0][i] *= factor(i);
  for (const Context& context : contexts_of_every_kind()) {
    const Result expected = run_case(context, ordinary, inputs);
    Result found = run_case(context, entry, large, expected.seeds);
    for (size_t i = 0; i < found.gradients[0].size(); ++i) found.gradients[0][i] *= factor(i);
    const std::string name = fmt::format("D {}, norm {}, times {} on {}", D, static_cast<int>(norm),
                                         scale, describe(context));
    for (const size_t i : {0, 1}) {
      check_close(fmt::format("{}, output {}", name, i), found.outputs[i], expected.outputs[i],
                  1e-4);
      check_close(fmt::format("{}, gradient {}", name, i), found.gradients[i],
                  expected.gradients[i], 1e-3);
    }
  }
}

}  // namespace

TEST_CASE("large numbers: Kronecker factors of any size") {
  const std::vector<real> scales =
      kDouble ? std::vector<real>{real(0x1p200), real(0x1p333), real(0x1p600), real(0x1p-300)}
              : std::vector<real>{real(0x1p30), real(0x1p50), real(0x1p83), real(0x1p120),
                                  real(0x1p-40)};
  for (const int64_t D : {12, 64, 256, 1147})
    for (const KroneckerNorm norm :
         {KroneckerNorm::row, KroneckerNorm::spectral, KroneckerNorm::row_spectral})
      for (const real scale : scales) check_factors(D, norm, scale);
}

namespace {

// One row: its loss is the whole one.
void check_loss(const Reals& logits, int32_t target, std::optional<double> known = {}) {
  const int64_t V = logits.size();
  const Wide largest = *std::ranges::max_element(logits);
  const auto e = [&](int64_t i) { return std::exp(logits[i] - largest); };
  const Wide total = sum_of(V, e), loss = std::log(total) + (largest - logits[target]);
  if (known) CHECK(std::abs(static_cast<double>(loss) - *known) < 1e-5);
  Wides gradient;
  for (int64_t i = 0; i < V; ++i) gradient.push_back(e(i) / total - (i == target ? 1 : 0));
  for (const Context& context : contexts_of_every_kind()) {
    Tape tape(context);
    const Var x = tape.variable(Tensor(context, {1, V}, logits));
    const Var y = masked_cross_entropy(x, IntTensor(context, {1}, std::vector<int32_t>{target}),
                                       full(context, {1}, 1));
    const std::string name =
        fmt::format("loss of {}, {} on {}", fmt::join(logits, ", "), target, describe(context));
    check_close(name, y.value().to_vector(), Wides{loss}, kClose);
    const Tensor dx = tape.vjp({y}, {full(context, {}, 1)}, {x}).front();
    check_close(name + ", gradient", dx.to_vector(), gradient, kClose);
  }
}

}  // namespace

TEST_CASE("large numbers: cross-entropy keeps the largest logit apart") {
  check_loss({1e4, 1e4 - 1, -1e4}, 1, 1.31326);
  check_loss({1e6, 1e6 - 1, 1e6 - 2}, 1, 1.40761);
  check_loss({-1e6, -1e6 - 1, -1e6 - 2}, 1, 1.40761);
  check_loss({100, 98, 99, 97}, 1);
  const real most = kDouble ? real(1e150) : kMax / 4;  // errors are compared in double, squared
  check_loss({most, -most, 0}, 0);
  check_loss({most, -most, 0}, 1);
  for (const real center : {real(0), real(63), real(64), real(65), real(-1000), real(1e5)})
    for (const int64_t V : {1, 2, 5, 16, 67}) check_loss(around(center, 3, V, V), V / 2);
}

TEST_CASE("large numbers: functions at infinity and at -0") {
  struct At {
    std::string name;
    Var (*function)(const Var&);
    real x, y, slope;
  };
  const At cases[] = {{"silu", silu, -kInf, 0, 0},
                      {"silu", silu, kInf, kInf, 1},
                      {"silu", silu, -kMax, 0, 0},
                      {"silu", silu, kMax, kMax, 1},
                      {"silu", silu, real(-0.0), 0, 0.5},
                      {"softplus", softplus, -kInf, 0, 0},
                      {"softplus", softplus, kInf, kInf, 1},
                      {"sigmoid", sigmoid, -kInf, 0, 0},
                      {"sigmoid", sigmoid, kInf, 1, 0},
                      {"tanh", tanh, -kInf, -1, 0},
                      {"tanh", tanh, kInf, 1, 0},
                      {"exp", exp, -kInf, 0, 0},
                      {"exp", exp, kInf, kInf, kInf},
                      {"square", square, -kInf, kInf, -kInf}};
  for (const Context& context : contexts_of_every_kind()) {
    for (const At& at : cases)
      for (const int64_t size : {1, 21, 64}) {  // alone and in registers
        Reals values(size, 1);
        values[size / 2] = at.x;
        Tape tape(context);
        const Var x = tape.variable(Tensor(context, {size}, values)), y = at.function(x);
        const std::string name = fmt::format("{} at {} on {}", at.name, at.x, describe(context));
        CHECK_MESSAGE(y.value().to_vector()[size / 2] == at.y, name);
        const Tensor dx = tape.vjp({y}, {full(context, {size}, 1)}, {x}).front();
        CHECK_MESSAGE(dx.to_vector()[size / 2] == at.slope, name << ", slope");
      }
    for (const auto function : {silu, tanh})
      for (const real zero : {real(0.0), real(-0.0)}) {
        const auto y = function(full(context, {37}, zero)).value().to_vector();
        for (const real value : y)
          CHECK_MESSAGE((value == 0 && std::signbit(value) == std::signbit(zero)),
                        describe(context));
      }
  }
}

TEST_CASE("large numbers: uniform numbers are below their end and finite") {
  const Context context = test_context();
  const auto draw = [&](real low, real high, int64_t count) {
    Rng rng{.seed = 3};
    return uniform(context, {count}, low, high, rng).to_vector();
  };
  const real low = kDouble ? real(1e11) : real(100);
  for (const auto& [from, to] : {std::pair{low, low + 1}, {-low - 1, -low}, {low + 1, low}}) {
    const Reals x = draw(from, to, 1 << 22);
    const auto [least, most] = std::ranges::minmax(x);
    CHECK(std::min(from, to) <= least);
    CHECK(most <= std::max(from, to));
    CHECK(std::ranges::count(x, to) == 0);
    CHECK(most - least > real(0.99));
  }
  CHECK(draw(5, 5, 100) == Reals(100, 5));
  for (const real bound : {kMax, real(0.9) * kMax}) {
    const Reals x = draw(-bound, bound, 10'000);
    const auto [least, most] = std::ranges::minmax(x);
    CHECK(-bound <= least);
    CHECK(least < real(-0.99) * bound);
    CHECK(most > real(0.99) * bound);
    CHECK(most < bound);
  }
  // As wide as it can be without that.
  const Rng stream{.seed = 3, .stream = 0};
  const Reals x = draw(-kMax / 4, kMax / 4, 100);
  for (int64_t i = 0; i < 100; ++i) CHECK(x[i] == -kMax / 4 + kMax / 2 * stream.uniform(i));
}

}  // namespace fprnn::tests
