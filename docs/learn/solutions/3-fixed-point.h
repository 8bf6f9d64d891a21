// Solutions of the exercises of chapter 3, docs/learn/exercises/3-fixed-point.h.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace chapter3 {

using Numbers = std::vector<double>;
using Matrix2 = std::array<double, 4>;

// 3.1 p = u . y solves p = u . offset + factor p.
inline Numbers solution(const Numbers& offset, const Numbers& u, double factor) {
  double p = 0;
  for (size_t i = 0; i < u.size(); ++i) p += u[i] * offset[i];
  p /= 1 - factor;
  Numbers y = offset;
  for (size_t i = 0; i < u.size(); ++i) y[i] += factor * p * u[i];
  return y;
}

// 3.2
inline Numbers iterated(const Numbers& lambda, const Numbers& q, const Numbers& b,
                        const Numbers& before) {
  Numbers h;
  double state = 0;
  for (size_t t = 0; t < b.size(); ++t)
    h.push_back(state = lambda[t] * state + q[t] * b[t] + (1 - q[t]) * before[t]);
  return h;
}

// 3.3 A = M^-1 L with M = I - (I - L) (I - Q).
inline Matrix2 transition(double lambda0, double lambda1, const Matrix2& q) {
  const Matrix2 m = {1 - (1 - lambda0) * (1 - q[0]), (1 - lambda0) * q[1], (1 - lambda1) * q[2],
                     1 - (1 - lambda1) * (1 - q[3])};
  const double determinant = m[0] * m[3] - m[1] * m[2];
  return {m[3] * lambda0 / determinant, -m[1] * lambda1 / determinant,
          -m[2] * lambda0 / determinant, m[0] * lambda1 / determinant};
}

// 3.4
inline int iterations_needed(double factor, double tolerance) {
  int count = 0;
  for (double error = 1; error > tolerance; error *= factor) ++count;
  return count;
}

// 3.5 An eigenvalue e becomes 1 - d (1 - e): the two ends then have the same size and opposite signs.
inline double best_damping(double least, double most) { return 2 / ((1 - least) + (1 - most)); }

}  // namespace chapter3
