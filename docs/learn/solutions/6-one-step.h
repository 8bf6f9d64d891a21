// Solutions of the exercises of chapter 6, docs/learn/exercises/6-one-step.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace chapter6 {

using Vector = std::vector<double>;
using Function = std::function<double(double)>;

inline double dot(const Vector& x, const Vector& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

// 6.1
inline Vector solve_linear(const Vector& offset, const Vector& gain, const Vector& u, double a) {
  double met = 0;  // u . (S . a u)
  for (size_t d = 0; d < u.size(); ++d) met += u[d] * gain[d] * a * u[d];
  const double beta = dot(u, offset) / (1 - met);
  Vector y(u.size());
  for (size_t d = 0; d < u.size(); ++d) y[d] = offset[d] + gain[d] * a * u[d] * beta;
  return y;
}

// 6.2
inline double largest_root(const Function& ratio, double low, double high, double apart) {
  double right = high, left = high;
  while (left > low && ratio(left) < 1) {  // down, in steps that cannot jump over two roots
    right = left;
    left -= apart / 2;
  }
  if (left < low) left = low;
  while (right - left > 1e-10) {
    const double middle = (left + right) / 2;
    (ratio(middle) < 1 ? right : left) = middle;
  }
  return left;
}

// 6.3
inline bool attracts(const Function& f, double root) {
  constexpr double kStep = 1e-5;
  return std::abs((f(root + kStep) - f(root - kStep)) / (2 * kStep)) < 1;
}

// 6.4
inline Vector adjoint(const Vector& w, const Vector& w1, const Vector& w2, const Vector& u1,
                      const Vector& u2) {
  // v = w + q1 u1 + q2 u2 with q_i = w_i . v, hence q_i = w_i . w + sum_j (w_i . u_j) q_j.
  const double a = 1 - dot(w1, u1), b = -dot(w1, u2), c = -dot(w2, u1), d = 1 - dot(w2, u2);
  const double p1 = dot(w1, w), p2 = dot(w2, w), determinant = a * d - b * c;
  const double q1 = (d * p1 - b * p2) / determinant, q2 = (a * p2 - c * p1) / determinant;
  Vector v = w;
  for (size_t i = 0; i < v.size(); ++i) v[i] += q1 * u1[i] + q2 * u2[i];
  return v;
}

}  // namespace chapter6
