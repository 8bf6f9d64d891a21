// |I - Q| of random mixers: never above what ops/mixer_bounds.md proves, and above 1 where it proves no more.
#include <doctest/doctest.h>
#include <fprnn/models/mixer.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/low_rank.h>
#include <fprnn/ops/norm.h>
#include <fprnn/ops/reduce.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "small_model.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kDraws = 2000;
constexpr double kRounding = kDouble ? 1e-12 : 1e-5;

// The square root of the largest eigenvalue of M^T M, M row-major n x n, by power iteration: from below.
double spectral_norm(const double* m, int64_t n) {
  std::vector<double> v(n), u(n);
  for (int64_t i = 0; i < n; ++i) v[i] = 1 + std::sin(double(3 * i + 1));
  double norm = 0;
  for (int iteration = 0; iteration < 100; ++iteration) {
    double length = 0;
    for (const double x : v) length += x * x;
    for (double& x : v) x /= std::sqrt(length);
    norm = 0;
    for (int64_t i = 0; i < n; ++i) {
      u[i] = 0;
      for (int64_t j = 0; j < n; ++j) u[i] += m[i * n + j] * v[j];
      norm += u[i] * u[i];
    }
    if (norm == 0) return 0;
    for (int64_t j = 0; j < n; ++j) {
      v[j] = 0;
      for (int64_t i = 0; i < n; ++i) v[j] += m[i * n + j] * u[i];
    }
  }
  return std::sqrt(norm);
}

// The norms of I - Q, where q_e (draws, D, D) holds Q e_j in row j.
std::vector<double> deviations(const Var& q_e) {
  const int64_t D = q_e.size(-1);
  const auto elements = q_e.value().to_vector();
  std::vector<double> norms, m(D * D);
  for (size_t at = 0; at < elements.size(); at += m.size()) {
    for (int64_t i = 0; i < D; ++i)
      for (int64_t j = 0; j < D; ++j) m[i * D + j] = (i == j) - double(elements[at + i * D + j]);
    norms.push_back(spectral_norm(m.data(), D));
  }
  return norms;
}

// (draws, D, D): the unit vectors, once for every draw.
Var unit_vectors(const Context& context, int64_t D) {
  std::vector<real> identity(D * D);
  for (int64_t i = 0; i < D; ++i) identity[i * D + i] = 1;
  return broadcast_to(Tensor(context, {D, D}, identity), {kDraws, D, D});
}

struct LowRank {
  Tensor alpha;               // (draws, r)
  std::vector<double> norms;  // of I - Q
};
// The vectors of a draw share a direction, so that they meet at small angles too.
LowRank random_low_rank(const Context& context, MixerKind kind, int64_t r, real scale) {
  constexpr int64_t D = 5;
  const Var common = broadcast_to(random(context, {kDraws, 1, D}, 20 + r, 2), {kDraws, r, D});
  const Var u = l2_normalize(add(common, random(context, {kDraws, r, D}, 40 + r)), real(1e-5));
  const Tensor alpha = sigmoid(random(context, {kDraws, r}, 60 + r, 16)).value();
  const Var all_u = broadcast_to(reshape(u, {kDraws, 1, r, D}), {kDraws, D, r, D});
  const Var all_alpha = broadcast_to(reshape(alpha, {kDraws, 1, r}), {kDraws, D, r});
  const auto mix = kind == MixerKind::householder ? householder : dplr;
  return {alpha, deviations(mix(all_u, all_alpha, unit_vectors(context, D), scale))};
}

double bound_of_token(MixerKind kind, const real* alpha, int64_t r, double scale) {
  double total = 0;
  for (int64_t i = 0; i < r; ++i) {
    const double a = scale * alpha[i];
    total += kind == MixerKind::dplr ? a : a / (2 - a);
  }
  if (kind == MixerKind::dplr) return total;
  return std::isinf(total) ? 2 : 2 * total / (1 + total);
}

double largest(const std::vector<double>& x) { return *std::ranges::max_element(x); }

// The norms of I - Q at scale 1, and those of the first factor alone.
struct KroneckerNorms {
  std::vector<double> deviation, factor;
};
KroneckerNorms kronecker_norms(const Var& k, const Var& gates, int64_t D, KroneckerNorm norm) {
  const KroneckerFactors factors = kronecker_factors(k, gates, D, norm, real(1e-5));
  const int64_t m1 = factors.left.size(-1), m2 = factors.right.size(-1);
  const auto of_each = [&](const Var& x, int64_t m) {
    return broadcast_to(reshape(x, {kDraws, 1, m, m}), {kDraws, D, m, m});
  };
  const Var q_e = kronecker({of_each(factors.left, m1), of_each(factors.right, m2)},
                            unit_vectors(k.context(), D), 1);
  KroneckerNorms norms{deviations(q_e), {}};
  const auto left = factors.left.value().to_vector();
  for (int64_t n = 0; n < kDraws; ++n) {
    const std::vector<double> one(left.begin() + n * m1 * m1, left.begin() + (n + 1) * m1 * m1);
    norms.factor.push_back(spectral_norm(one.data(), m1));
  }
  return norms;
}

}  // namespace

TEST_CASE("mixer bounds: householder and dplr stay below what is proven") {
  const Context context = test_context();
  for (const MixerKind kind : {MixerKind::householder, MixerKind::dplr})
    for (const int64_t r : {1, 2, 3, 4})
      for (const double scale : {0.3, 2.0 / (r + 1), 1.0 / r, 1.0, 2.0}) {
        CAPTURE(name_of(kind));
        CAPTURE(r);
        CAPTURE(scale);
        const auto [alpha, norms] = random_low_rank(context, kind, r, real(scale));
        const auto gates = alpha.to_vector();
        double excess = -1;
        for (int64_t n = 0; n < kDraws; ++n)
          excess = std::max(excess, norms[n] - bound_of_token(kind, &gates[n * r], r, scale));
        CHECK(excess <= kRounding);
        const auto bound = proven_bound(
            {.kind = kind, .channels = 5, .parameters = 1, .rank = r, .scale = real(scale)});
        REQUIRE(bound.has_value());
        CHECK(largest(norms) <= *bound + kRounding);
      }
}

// As a layer makes its mixers, from numbers that no weights would give: a bound that is too small shows up whatever
// the kind is.
TEST_CASE("mixer bounds: no kind exceeds its own") {
  const Context context = test_context();
  for (const MixerKindRow& row : mixer_kinds())
    for (const int64_t r : {1, 2})
      for (const double scale : {0.5, 1.0, 2.0}) {
        const MixerOptions options{
            .kind = row.kind, .channels = 6, .parameters = 1, .rank = r, .scale = real(scale)};
        const auto bound = proven_bound(options);
        if (!bound.has_value() || (r > 1 && !row.rank)) continue;
        CAPTURE(row.name);
        CAPTURE(r);
        CAPTURE(scale);
        Root root;
        Rng rng{.seed = 1};
        const auto mixer = make_mixer(root, "mixer", {context, rng}, options);
        const int64_t D = options.channels, numbers = mixer->outputs();
        const Var drawn = reshape(random(context, {kDraws, numbers}, 80, 8), {kDraws, 1, numbers});
        const MixerFactors factors = mixer->factors(broadcast_to(drawn, {kDraws, D, numbers}));
        const double most = largest(deviations(mixer->apply(factors, unit_vectors(context, D))));
        CHECK(most <= *bound + kRounding);
        CHECK(most > 0.1 * scale);
      }
}

TEST_CASE("mixer bounds: scale 1 contracts at rank 1 and not beyond") {
  const Context context = test_context();
  const auto at = [&](MixerKind kind, int64_t r, double scale) {
    return largest(random_low_rank(context, kind, r, real(scale)).norms);
  };
  for (const MixerKind kind : {MixerKind::householder, MixerKind::dplr})
    CHECK(at(kind, 1, 1) <= 1 + kRounding);
  CHECK(at(MixerKind::householder, 2, 1) > 1.13);  // 2 / sqrt(3) at most in a plane
  CHECK(at(MixerKind::householder, 4, 1) > 1.2);
  CHECK(at(MixerKind::dplr, 2, 1) > 1.94);
  for (const int64_t r : {2, 3, 4}) {
    CHECK(at(MixerKind::householder, r, 2.0 / (r + 1)) <= 1 + kRounding);
    CHECK(at(MixerKind::dplr, r, 1.0 / r) <= 1 + kRounding);
  }
}

TEST_CASE("mixer bounds: a row-normalised Kronecker product reaches the root of its channels") {
  constexpr int64_t D = 16, kTriangles = 20;
  const Context context = test_context();
  const Var open = full(context, {kDraws, 8}, 1);
  const auto bound = proven_bound({.kind = MixerKind::kronecker, .channels = D, .scale = 1});
  REQUIRE(bound.has_value());
  CHECK(*bound == 4);
  const Var k = random(context, {kDraws, kTriangles}, 80);
  const auto norms = kronecker_norms(k, open, D, KroneckerNorm::row);
  CHECK(largest(norms.deviation) <= *bound + kRounding);
  CHECK(largest(norms.deviation) > 2);
  std::vector<real> ones(kDraws * kTriangles);
  for (size_t row = 0; row < ones.size(); row += 10)  // E has a last column of ones: K is ones
    for (const int last : {3, 6, 8, 9}) ones[row + last] = 1;
  const auto extreme =
      kronecker_norms(Tensor(context, {kDraws, kTriangles}, ones), open, D, KroneckerNorm::row);
  CHECK(extreme.factor.front() == doctest::Approx(2));
  CHECK(extreme.deviation.front() == doctest::Approx(4));
  const Var gates = sigmoid(random(context, {kDraws, 8}, 81, 4));
  CHECK(largest(kronecker_norms(k, gates, D, KroneckerNorm::row).deviation) > 1);
}

// An eigenvalue that power iterations underestimate leaves a factor longer than 1.
TEST_CASE(
    "mixer bounds: the spectral norm contracts as far as its iterations find the eigenvalue") {
  constexpr int64_t D = 4;
  const Context context = test_context();
  const Var open = full(context, {kDraws, 4}, 1);
  const auto factor_of = [&](real a, real b, real c) {
    const Tensor k(context, {6}, std::array{a, b, c, a, b, c});
    return kronecker_norms(broadcast_to(k, {kDraws, 6}), open, D, KroneckerNorm::spectral)
        .factor.front();
  };
  const real root = std::sqrt(real(3));
  // K = (3, 1; 1, 3): (1, 1) has the eigenvalue 4. K = (3, -1; -1, 3): it has 2, of 2 and 4.
  CHECK(factor_of(std::sqrt(real(8) / 3), 1 / root, root) == doctest::Approx(1));
  CHECK(factor_of(std::sqrt(real(8) / 3), -1 / root, root) > 1.9);
  CHECK_FALSE(proven_bound({.kind = MixerKind::kronecker, .norm = KroneckerNorm::spectral}));
  CHECK_FALSE(proven_bound({.kind = MixerKind::kronecker, .norm = KroneckerNorm::row_spectral}));
}

}  // namespace fprnn::tests
