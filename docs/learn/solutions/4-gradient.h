// Solutions of the exercises of chapter 4, docs/learn/exercises/4-gradient.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace chapter4 {

using Numbers = std::vector<double>;

// 4.1 With the slope s = 1 - y^2 of tanh there: dy = s (w dy + y dw + dx).
struct Slopes {
  double to_x = 0, to_w = 0;
};
inline Slopes slopes(double w, double y) {
  const double s = 1 - y * y, to_x = s / (1 - s * w);
  return {to_x, to_x * y};
}

// 4.2
inline Numbers central_differences(const std::function<double(const Numbers&)>& f, const Numbers& x,
                                   double step) {
  Numbers derivatives, at = x;
  for (size_t i = 0; i < x.size(); ++i) {
    at[i] = x[i] + step;
    const double above = f(at);
    at[i] = x[i] - step;
    derivatives.push_back((above - f(at)) / (2 * step));
    at[i] = x[i];
  }
  return derivatives;
}

// 4.3
inline Numbers adjoint(const Numbers& g,
                       const std::function<Numbers(const Numbers&)>& times_transpose,
                       double tolerance, int most) {
  Numbers v = g;
  for (int product = 0; product < most; ++product) {
    Numbers next = times_transpose(v);
    double residual = 0;
    for (size_t i = 0; i < g.size(); ++i) {
      next[i] += g[i];
      residual = std::max(residual, std::abs(next[i] - v[i]));
    }
    if (residual <= tolerance) return v;
    v = next;
  }
  return {};
}

// 4.4 J^T v = factor u p with p = sum_i gain_i u_i v_i, and p solves p = q + factor p sum_i gain_i u_i^2, where q is
// the same sum of g.
inline Numbers adjoint_of_step(const Numbers& g, const Numbers& gain, double factor,
                               const Numbers& u) {
  double q = 0, squares = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    q += gain[i] * u[i] * g[i];
    squares += gain[i] * u[i] * u[i];
  }
  const double p = q / (1 - factor * squares);
  Numbers v = g;
  for (size_t i = 0; i < g.size(); ++i) v[i] += factor * p * u[i];
  return v;
}

}  // namespace chapter4
