// Chapter 6: one step y = N(A + S . ((I - Q) y)) of a fixed-point layer, all of whose past is known:
// by hand, in r numbers, and as one equation in sigma.
#include <fprnn/core/rng.h>
#include <fprnn/ops/fp_mamba_solve.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "drawing.h"
#include "matrix.h"
#include "program.h"
#include "rms.h"

namespace {

using namespace fprnn;
using learn::deviation, learn::dot, learn::kEps, learn::Matrix, learn::Numbers;

// [step]
// What is known of one token: Q's unit vectors u_i with a_i = scale alpha_i, and A and S. N is RMS,
// y = v / sigma with sigma^2 = |v|^2 / D + eps.
struct Step {
  std::vector<Numbers> u;
  Numbers a, offset, gain;  // (r), (D), (D)
  int64_t r() const { return std::ssize(u); }
  int64_t D() const { return std::ssize(offset); }
};

// N(A + S . ((I - Q) y)), channel by channel.
Numbers map_once(const Step& step, const Numbers& y) {
  Numbers mixed = y;  // Q y: each factor meets what the one before has left
  for (int64_t i = 0; i < step.r(); ++i) {
    const double along = dot(step.u[i], mixed);
    for (int64_t d = 0; d < step.D(); ++d) mixed[d] -= step.a[i] * along * step.u[i][d];
  }
  Numbers v(step.D());
  for (int64_t d = 0; d < step.D(); ++d) v[d] = step.offset[d] + step.gain[d] * (y[d] - mixed[d]);
  const double sigma = deviation(v);
  for (double& value : v) value /= sigma;
  return v;
}
// [/step]

// The library's solution of the same step.
LocalSolution library_solve(const Step& step, const Context& context) {
  std::vector<real> u, alpha;
  for (int64_t i = 0; i < step.r(); ++i) {
    u.insert(u.end(), step.u[i].begin(), step.u[i].end());
    alpha.push_back(static_cast<real>(step.a[i] / 2));
  }
  const auto row = [&](const Numbers& x) {
    return learn::tensor_of(context, {1, std::ssize(x)}, x);
  };
  const int64_t r = step.r(), D = step.D();
  return local_solve({.u = Tensor(context, {1, r, D}, u),
                      .alpha = Tensor(context, {1, r}, alpha),
                      .offset = row(step.offset),
                      .gain = row(step.gain),
                      .weight = Tensor(context, {D}, std::vector<real>(D, 1)),
                      .scale = 2},
                     real(1e-5), 1000);
}
double difference_from_library(const Step& step, const Numbers& y) {
  const std::vector<real> found = library_solve(step, Context::cpu()).y.to_vector();
  double largest = 0;
  for (size_t d = 0; d < y.size(); ++d)
    largest = std::max(largest, std::abs(y[d] - static_cast<double>(found[d])));
  return largest;
}

// [hand]
void by_hand() {
  const Step step{.u = {{1, 0}}, .a = {1}, .offset = {0.5, 1}, .gain = {1, 1}};
  Numbers y = {0, 0};
  for (int k = 0; k <= 40; ++k) {
    if (k <= 4 || k == 40) std::printf("y after %2d steps  %.4f  %.4f\n", k, y[0], y[1]);
    y = map_once(step, y);
  }
  std::printf("the library's y is that: %s\n",
              difference_from_library(step, y) < 1e-4 ? "yes" : "no");
}
// [/hand]

// [reduce]
// The same equation in r numbers beta = U y: (I - Q) y = U^T M beta, so v = A + W beta, and
//   F(beta) = U N(v) = (p0 + p1 beta) / sigma(beta).
struct Reduced {
  Matrix p1, square;    // U W, W^T W / D
  Numbers p0, cross;    // U A, W^T A / D
  double variance = 0;  // |A|^2 / D + eps
};

Reduced reduced(const Step& step) {
  const int64_t r = step.r(), D = step.D();
  Matrix m(r);  // M_ii = a_i,  M_ij = -a_i sum_{j <= k < i} (u_i . u_k) M_kj
  for (int64_t i = 0; i < r; ++i) {
    m(i, i) = step.a[i];
    for (int64_t k = 0; k < i; ++k)
      for (int64_t j = 0; j <= k; ++j) m(i, j) -= step.a[i] * dot(step.u[i], step.u[k]) * m(k, j);
  }
  std::vector<Numbers> w(r, Numbers(D, 0));  // the columns of W = diag(S) U^T M
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = 0; i < r; ++i)
      for (int64_t d = 0; d < D; ++d) w[j][d] += step.gain[d] * step.u[i][d] * m(i, j);
  Reduced result{Matrix(r), Matrix(r), Numbers(r), Numbers(r)};
  result.variance = dot(step.offset, step.offset) / D + kEps;
  for (int64_t i = 0; i < r; ++i) {
    result.p0[i] = dot(step.u[i], step.offset);
    result.cross[i] = dot(w[i], step.offset) / D;
    for (int64_t j = 0; j < r; ++j) {
      result.p1(i, j) = dot(step.u[i], w[j]);
      result.square(i, j) = dot(w[i], w[j]) / D;
    }
  }
  return result;
}

double sigma_at(const Reduced& in, const Numbers& beta) {
  return std::sqrt(in.variance + 2 * dot(in.cross, beta) + dot(beta, in.square * beta));
}
Numbers map_once(const Reduced& in, const Numbers& beta) {
  Numbers f = in.p1 * beta;
  const double sigma = sigma_at(in, beta);
  for (size_t i = 0; i < f.size(); ++i) f[i] = (in.p0[i] + f[i]) / sigma;
  return f;
}
// [/reduce]

// A token of D channels and two factors, its numbers drawn evenly; `gain` scales S.
Step random_step(uint64_t seed, int64_t D, double offset, double gain) {
  const Rng rng{.seed = seed};
  uint64_t next = 0;
  const auto draw = [&] { return 2.0 * static_cast<double>(rng.uniform(next++)) - 1; };
  Step step{
      .u = {Numbers(D), Numbers(D)}, .a = {1.9, 1.6}, .offset = Numbers(D), .gain = Numbers(D)};
  for (Numbers& u : step.u) {
    for (double& value : u) value = draw();
    const double length = std::sqrt(dot(u, u));
    for (double& value : u) value /= length;
  }
  for (double& value : step.offset) value = offset * draw();
  for (double& value : step.gain) value = gain * (1 + 0.5 * draw());
  return step;
}

// [numbers]
void in_r_numbers() {
  const Step step = random_step(1, 64, 1, 0.5);
  const Reduced in = reduced(step);
  Numbers y(64, 0), beta(2, 0);
  double largest = 0;
  for (int k = 0; k <= 30; ++k) {
    const Numbers seen = {dot(step.u[0], y), dot(step.u[1], y)};
    if (k <= 3)
      std::printf("step %d  U y  %7.4f %7.4f   beta  %7.4f %7.4f\n", k, seen[0], seen[1], beta[0],
                  beta[1]);
    for (int i = 0; i < 2; ++i) largest = std::max(largest, std::abs(seen[i] - beta[i]));
    y = map_once(step, y);
    beta = map_once(in, beta);
  }
  std::printf("the same iterates, within 1e-10: %s\n", largest < 1e-10 ? "yes" : "no");
  const int D = 64, r = 2;
  std::printf("multiply-adds of an iteration: %d for y, %d for beta\n", 2 * r * D + 2 * D,
              2 * r * r + 2 * r);
}
// [/numbers]

// [secular]
// For given sigma the equation is linear: (sigma I - p1) beta = p0, here for r = 2. What is left is
// sigma(beta(sigma)) = sigma. This is the ratio of the two sides, 1 at a root.
Numbers beta_at(const Reduced& in, double sigma) {
  const double a = sigma - in.p1(0, 0), b = -in.p1(0, 1), c = -in.p1(1, 0), d = sigma - in.p1(1, 1);
  const double determinant = a * d - b * c;
  return {(d * in.p0[0] - b * in.p0[1]) / determinant, (a * in.p0[1] - c * in.p0[0]) / determinant};
}
double ratio_at(const Reduced& in, double sigma) {
  return sigma_at(in, beta_at(in, sigma)) / sigma;
}

// All roots between two sigmas, ascending: a fine comb, then bisection.
std::vector<double> roots(const Reduced& in, double low, double high) {
  constexpr int kComb = 100000;
  std::vector<double> found;
  for (int i = 0; i < kComb; ++i) {
    double left = low + (high - low) * i / kComb, right = low + (high - low) * (i + 1) / kComb;
    const bool above = ratio_at(in, left) > 1;
    if (above == (ratio_at(in, right) > 1)) continue;
    for (int halving = 0; halving < 60; ++halving) {
      const double middle = (left + right) / 2;
      ((ratio_at(in, middle) > 1) == above ? left : right) = middle;
    }
    found.push_back(left);
  }
  return found;
}
// The eigenvalues of p1, where beta is infinite: the poles.
std::vector<double> poles(const Reduced& in) {
  const double half = (in.p1(0, 0) + in.p1(1, 1)) / 2;
  const double determinant = in.p1(0, 0) * in.p1(1, 1) - in.p1(0, 1) * in.p1(1, 0);
  const double square = half * half - determinant;
  if (square < 0) return {};
  return {half - std::sqrt(square), half + std::sqrt(square)};
}
// [/secular]

// [which]
// How plain iteration from 0 ends: its sigma, or 0 where it has not settled after 10,000 steps.
double plain_sigma(const Reduced& in) {
  Numbers beta(2, 0);
  for (int k = 0; k < 10000; ++k) {
    const Numbers next = map_once(in, beta);
    if (std::abs(next[0] - beta[0]) + std::abs(next[1] - beta[1]) < 1e-12)
      return sigma_at(in, next);
    beta = next;
  }
  return 0;
}

void which_root(const char* what, const Step& step) {
  const Reduced in = reduced(step);
  std::printf("%s\n  poles", what);
  for (const double pole : poles(in)) std::printf(" %.3f", pole);
  if (poles(in).empty()) std::printf(" none: they are a complex pair");
  std::printf("\n  roots");
  const std::vector<double> all = roots(in, 0.003, 8);
  for (const double sigma : all) std::printf(" %.3f", sigma);
  const double plain = plain_sigma(in);
  if (plain > 0)
    std::printf("\n  plain iteration settles at %.3f\n", plain);
  else
    std::printf("\n  plain iteration does not settle\n");
  const double chosen = plain > 0 ? plain : all.back();
  const Numbers y = learn::numbers_of(library_solve(step, Context::cpu()).y);
  const Numbers beta = {dot(step.u[0], y), dot(step.u[1], y)};
  std::printf("  the library's sigma is %.3f: %s\n", chosen,
              std::abs(sigma_at(in, beta) / chosen - 1) < 1e-3 ? "yes" : "no");
}
// [/which]

void print_roots() {
  which_root("three roots, two poles", random_step(2, 16, 1, 0.5));
  which_root("the gain with the other sign", random_step(1, 16, 0.3, -1));
  which_root("two reflections that rotate", random_step(4, 16, 1, 1));
}

// The ratio of the two sides of the equation in sigma, with its roots and poles.
std::string draw_sigma() {
  const Reduced in = reduced(random_step(2, 16, 1, 0.5));
  constexpr double kLow = 0.4, kHigh = 1.4, kMost = 100;
  learn::Drawing drawing(680, 380, "sigma(beta(sigma)) / sigma against sigma");
  Panel panel;
  panel.title = "One step as an equation in sigma";
  panel.note = "sigma(beta(sigma)) / sigma";
  panel.x_label = "sigma";
  panel.x = {.least = kLow, .most = kHigh};
  panel.y = {.least = 0.1, .most = kMost, .base = 10};
  constexpr double kGap = std::numeric_limits<double>::quiet_NaN();
  Curve ratio,
      one{.points = {{.x = kLow, .y = 1}, {.x = kHigh, .y = 1}}, .style = 3, .faint = true};
  for (int i = 0; i <= 1600; ++i) {
    const double sigma = kLow + (kHigh - kLow) * i / 1600, value = ratio_at(in, sigma);
    ratio.points.push_back({.x = sigma, .y = value < kMost ? value : kGap});
  }
  panel.curves = {ratio, one};
  for (const double pole : poles(in))
    panel.curves.push_back(
        {.points = {{.x = pole, .y = 0.1}, {.x = pole, .y = kMost}}, .style = 1, .faint = true});
  for (const double root : roots(in, kLow, kHigh))
    panel.curves.push_back({.points = {{.x = root, .y = 1}}, .style = 2, .marks = true});
  drawing.chart(panel, {10, 10, 660, 320});
  drawing.legend({40, 354}, ratio, "the ratio");
  drawing.legend({200, 354}, Curve{.points = {}, .style = 1, .faint = true}, "a pole");
  drawing.legend({340, 354}, Curve{.points = {{}}, .style = 2, .marks = true}, "a root");
  return drawing.svg();
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(argc, argv,
                    {{"hand", by_hand}, {"numbers", in_r_numbers}, {"roots", print_roots}},
                    {{"6-one-step-sigma", draw_sigma}});
}
