// Chapter 3: a dense recurrence as the fixed point of a diagonal one.
#include <fprnn/autograd/picard.h>
#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "drawing.h"
#include "numbers.h"
#include "program.h"

namespace {

using namespace fprnn;
using learn::Numbers, learn::dot, learn::length, learn::plus, learn::print;

// [step]
// One step's equation y = offset + gain (I - Q) y with I - Q = scale alpha u u^T, and u of length 1.
struct Equation {
  Numbers offset, u;
  double gain, alpha, scale;
  Numbers operator()(const Numbers& y) const {
    return plus(offset, gain * scale * alpha * dot(u, y), u);
  }
};
// [/step]

// [hand]
// y <- f(y), five times from 0.
void print_hand() {
  const Numbers offset = {2, 1}, u = {0.6, 0.8};
  for (const double scale : {1, 2}) {
    const Equation f{offset, u, -1, 0.5, scale};
    Numbers y = {0, 0};
    std::printf("scale %.0f\n", scale);
    for (int iteration = 1; iteration <= 5; ++iteration) {
      y = f(y);
      std::printf("  y%d", iteration);
      print("", y);
    }
  }
}
// [/hand]

// [damped]
// The same with damping: y <- (f(y) + y) / 2.
void print_damped() {
  const Equation f{{2, 1}, {0.6, 0.8}, -1, 0.5, 2};
  Numbers y = {0, 0};
  for (int iteration = 1; iteration <= 15; ++iteration) {
    const Numbers next = f(y);
    for (size_t i = 0; i < 2; ++i) y[i] = (next[i] + y[i]) / 2;
    if (iteration % 5 != 0) continue;
    std::printf("y%d", iteration);
    print("", y);
  }
}
// [/damped]

// [roots]
// y <- tanh(2 y): bounded, so there is a solution, but |slope| is 2 at 0.
void print_roots() {
  for (const double start : {-1.0, -0.1, 0.0, 0.1, 1.0}) {
    double y = start;
    for (int iteration = 0; iteration < 100; ++iteration) y = std::tanh(2 * y);
    std::printf("from %4.1f to %6.3f\n", start, y + 0.0);
  }
}
// [/roots]

// A sequence of T steps with D channels, and Q_t = I - alpha_t u_t u_t^T for each.
constexpr int64_t kT = 32, kD = 4;
struct Sequence {
  Tensor lambda, b, u, alpha;  // (1, T, D), (1, T, D), (1, T, 1, D), (1, T, 1)
};

Sequence random_sequence(const Context& context) {
  Rng rng{.seed = 3};
  return {.lambda = uniform(context, {1, kT, kD}, real(0.5), real(0.95), rng),
          .b = normal(context, {1, kT, kD}, 0, 1, rng),
          .u = l2_normalize(normal(context, {1, kT, 1, kD}, 0, 1, rng), real(1e-5)).value(),
          .alpha = uniform(context, {1, kT, 1}, real(0.1), real(0.9), rng)};
}

// [picard]
// f(h) = scan of (lambda, (1 - lambda) (Q b + (I - Q) h)): all steps at once.
Solution solved(const Sequence& s) {
  const auto f = [&](const Tensor& h) {
    const Var mixed = add(householder(s.u, s.alpha, sub(s.b, h), 1), h);  // Q (b - h) + h
    const Var gate = affine(s.lambda, -1, 1);                             // 1 - lambda
    return Evaluated<Tensor>(scan(s.lambda, mul(gate, mixed)).value());
  };
  return picard(f, zeros(s.b.context(), s.b.shape()), {.tolerance = real(1e-5)});
}
// [/picard]

// [dense]
// The same recurrence as a loop over dense steps. Step t solves, for its own h alone,
//   h = c + (1 - lambda) alpha u (u . h),  c = lambda h_{t-1} + (1 - lambda) Q b
// by p = u . h: p = u . c + alpha p (u . (1 - lambda) u).
Numbers dense_step(const Numbers& before, const Numbers& lambda, const Numbers& b, const Numbers& u,
                   double alpha) {
  const Numbers qb = plus(b, -alpha * dot(u, b), u);
  Numbers c(kD), gated_u(kD);
  for (int64_t d = 0; d < kD; ++d) {
    c[d] = lambda[d] * before[d] + (1 - lambda[d]) * qb[d];
    gated_u[d] = (1 - lambda[d]) * u[d];
  }
  const double p = dot(u, c) / (1 - alpha * dot(u, gated_u));
  return plus(c, alpha * p, gated_u);
}
// [/dense]

void print_dense() {
  const Context context = Context::cpu();
  const Sequence s = random_sequence(context);
  const auto row = [](const Tensor& x, int64_t t) {
    const Numbers all = learn::numbers_of(x);
    return Numbers(all.begin() + t * kD, all.begin() + (t + 1) * kD);
  };
  const Solution solution = solved(s);
  const Numbers alpha = learn::numbers_of(s.alpha);
  Numbers h(kD);
  double largest = 0;
  for (int64_t t = 0; t < kT; ++t) {
    h = dense_step(h, row(s.lambda, t), row(s.b, t), row(s.u, t), alpha[t]);
    largest = std::max(largest, learn::largest_difference(h, row(solution.y, t)));
  }
  std::printf("%d steps of %d channels, iteration within 1e-4 of dense steps: %s\n",
              static_cast<int>(kT), static_cast<int>(kD), largest < 1e-4 ? "yes" : "no");
}

// [residual]
// The residual |f(y) - y| of each iteration of the two-channel equation.
Numbers residuals(double gain, double scale, int iterations) {
  const Equation f{{2, 1}, {0.6, 0.8}, gain, 0.5, scale};
  Numbers y = {0, 0}, all;
  for (int i = 0; i < iterations; ++i) {
    const Numbers next = f(y);
    all.push_back(length(plus(next, -1, y)));
    y = next;
  }
  return all;
}
// [/residual]

void print_residual() {
  std::printf("iteration  factor 0.5  factor -0.5  factor 0.9  factor -1  factor 1.2\n");
  for (const int i : {2, 4, 7, 13, 25})
    std::printf("%9d %11.1e %12.1e %11.1e %10.1e %11.1e\n", i, residuals(1, 1, i).back(),
                residuals(-1, 1, i).back(), residuals(1, 1.8, i).back(), residuals(-1, 2, i).back(),
                residuals(1, 2.4, i).back());
}

// y_t = 2 y_{t-1} + 1, all steps at once from zeros: no contraction, and yet exact after T iterations.
void print_prefix() {
  Numbers y(4, 0);
  std::printf("iteration       y_1     y_2     y_3     y_4   residual\n");
  for (int iteration = 0; iteration <= 4; ++iteration) {
    Numbers next(4, 1);
    for (size_t t = 1; t < 4; ++t) next[t] = 2 * y[t - 1] + 1;
    std::printf("%9d  ", iteration);
    for (const double value : y) std::printf(" %7.0f", value);
    std::printf(" %10.0f\n", learn::largest_difference(next, y));
    y = next;
  }
}

// [length]
// How many iterations a sequence of two channels needs:
//   y_t = (1/2) y_{t-1} + (1/2) (Q_t x_t + (I - Q_t) y_t),  I - Q_t = alpha u u^T
// with u the direction of x_t turned by 45 degrees or, seeing the past, of that plus 4 y_{t-1}.
int iterations(int T, bool sees_past) {
  constexpr double alpha = 0.9;
  std::vector<Numbers> y(T, Numbers{0, 0});
  for (int count = 1;; ++count) {
    double residual = 0;
    Numbers state = {0, 0};  // the scan's, of this iteration
    const std::vector<Numbers> before = y;
    for (int t = 0; t < T; ++t) {
      const Numbers x = {std::cos(1.0 * t * t), std::sin(1.0 * t * t)};
      Numbers u = {x[0] - x[1], x[0] + x[1]};
      if (sees_past && t > 0) u = plus(u, 4, before[t - 1]);
      u = plus({0, 0}, 1 / length(u), u);
      const Numbers mixed = plus(x, alpha * (dot(u, before[t]) - dot(u, x)), u);  // Q x + (I - Q) y
      state = plus(plus({0, 0}, 0.5, state), 0.5, mixed);
      y[t] = state;
      residual = std::max(residual, learn::largest_difference(y[t], before[t]));
    }
    if (residual < 1e-6) return count;
  }
}
// [/length]

void print_length() {
  std::printf("   T  Q of x_t alone  Q of y_{t-1} too\n");
  for (const int T : {8, 16, 32, 64, 128})
    std::printf("%4d %15d %17d\n", T, iterations(T, false), iterations(T, true));
}

// A chart with the legend beside it.
std::string chart(fprnn::Panel panel, const std::vector<std::string>& names) {
  learn::Drawing drawing(680, 330, panel.title);
  for (size_t i = 0; i < names.size(); ++i)
    drawing.legend({520, 80 + 28.0 * static_cast<double>(i)}, panel.curves[i], names[i]);
  drawing.chart(panel, {16, 12, 490, 310});
  return drawing.svg();
}

std::string draw_residual() {
  fprnn::Panel panel{.title = "Residual after each iteration",
                     .x_label = "iteration",
                     .x = {0, 30},
                     .y = {1e-8, 1e3, 10},
                     .curves = {}};
  const std::vector<std::pair<double, double>> gains_and_scales = {
      {1, 1}, {1, 1.8}, {-1, 2}, {1, 2.4}};
  for (size_t i = 0; i < gains_and_scales.size(); ++i) {
    fprnn::Curve curve{.points = {}, .style = i};
    const Numbers all = residuals(gains_and_scales[i].first, gains_and_scales[i].second, 30);
    for (size_t l = 0; l < all.size(); ++l)
      if (all[l] >= panel.y.least)
        curve.points.push_back({.x = static_cast<double>(l + 1), .y = all[l]});
    panel.curves.push_back(curve);
  }
  return chart(panel, {"factor 0.5", "factor 0.9", "factor -1", "factor 1.2"});
}

std::string draw_length() {
  fprnn::Panel panel{.title = "Iterations until the residual is 1e-6",
                     .x_label = "length T of the sequence",
                     .x = {0, 132},
                     .y = {0, 160},
                     .curves = {}};
  for (const bool sees_past : {false, true}) {
    fprnn::Curve curve{.points = {}, .style = static_cast<size_t>(sees_past), .marks = true};
    for (const int T : {8, 16, 32, 64, 128})
      curve.points.push_back(
          {.x = static_cast<double>(T), .y = static_cast<double>(iterations(T, sees_past))});
    panel.curves.push_back(curve);
  }
  return chart(panel, {"Q of x_t alone", "Q of y_{t-1} too"});
}

}  // namespace

int main(int argc, char** argv) {
  return learn::run(
      argc, argv,
      {{"hand", print_hand},
       {"damped", print_damped},
       {"roots", print_roots},
       {"prefix", print_prefix},
       {"dense", print_dense},
       {"residual", print_residual},
       {"length", print_length}},
      {{"3-fixed-point-residual", draw_residual}, {"3-fixed-point-length", draw_length}});
}
