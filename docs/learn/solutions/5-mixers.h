// Solutions of the exercises of chapter 5, docs/learn/exercises/5-mixers.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace chapter5 {

using Vector = std::vector<double>;

// A Householder mixer: for each factor in order v <- v - a_i u_i (u_i . v), with unit vectors u_i.
struct Mixer {
  std::vector<Vector> u;
  Vector a;  // scale times gate
};

inline double dot(const Vector& x, const Vector& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}
inline void add(Vector& x, double factor, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += factor * y[i];
}

// 5.1
inline Vector apply(const Mixer& q, const Vector& v) {
  Vector result = v;
  for (size_t i = 0; i < q.u.size(); ++i) add(result, -q.a[i] * dot(q.u[i], result), q.u[i]);
  return result;
}

// 5.2
inline Vector undo(const Mixer& q, const Vector& mixed) {
  Vector result = mixed;
  for (size_t i = q.u.size(); i-- > 0;) {
    const double found = dot(q.u[i], result);  // (1 - a_i) times what the factor met
    add(result, q.a[i] * found / (1 - q.a[i]), q.u[i]);
  }
  return result;
}

// 5.3
inline Mixer rotation(const Vector& x, const Vector& y) {
  Vector middle = x;  // first along x, which makes it -x; then -x is reflected to y
  add(middle, 1, y);
  const double length = std::sqrt(dot(middle, middle));
  for (double& value : middle) value /= length;
  return {{x, middle}, {2, 2}};
}

// 5.4
inline int reflections(const std::vector<int>& p) {
  std::vector<bool> seen(p.size(), false);  // n less the number of cycles
  int count = static_cast<int>(p.size());
  for (size_t i = 0; i < p.size(); ++i) {
    if (seen[i]) continue;
    --count;
    for (size_t j = i; !seen[j]; j = static_cast<size_t>(p[j])) seen[j] = true;
  }
  return count;
}

// 5.5
inline Vector kronecker(const Vector& left, const Vector& right, const Vector& v, size_t m1,
                        size_t m2, long& multiply_adds) {
  Vector half(m1 * m2, 0), result = v;  // V R
  for (size_t i = 0; i < m1; ++i)
    for (size_t j = 0; j < m2; ++j)
      for (size_t k = 0; k < m2; ++k, ++multiply_adds)
        half[i * m2 + j] += v[i * m2 + k] * right[k * m2 + j];
  for (size_t i = 0; i < m1; ++i)
    for (size_t j = 0; j < m2; ++j)
      for (size_t k = 0; k < m1; ++k, ++multiply_adds)
        result[i * m2 + j] -= left[k * m1 + i] * half[k * m2 + j];
  return result;
}

}  // namespace chapter5
