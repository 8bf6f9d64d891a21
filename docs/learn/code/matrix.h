// Small square matrices in double, for the chapters that do by hand what the library does.
#pragma once

#include <cstdio>

#include "numbers.h"

namespace learn {

struct Matrix {
  int n = 0;
  Numbers elements;  // (n, n), row by row

  explicit Matrix(int64_t size) : n(static_cast<int>(size)), elements(size * size, 0) {}
  double& operator()(int64_t i, int64_t j) { return elements[i * n + j]; }
  double operator()(int64_t i, int64_t j) const { return elements[i * n + j]; }
  Matrix transposed() const {
    Matrix result(n);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) result(j, i) = (*this)(i, j);
    return result;
  }
};

inline Matrix identity(int64_t n) {
  Matrix result(n);
  for (int i = 0; i < n; ++i) result(i, i) = 1;
  return result;
}

inline Numbers operator*(const Matrix& m, const Numbers& v) {
  Numbers result(m.n, 0);
  for (int i = 0; i < m.n; ++i)
    for (int j = 0; j < m.n; ++j) result[i] += m(i, j) * v[j];
  return result;
}

inline Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix result(a.n);
  for (int i = 0; i < a.n; ++i)
    for (int k = 0; k < a.n; ++k)
      for (int j = 0; j < a.n; ++j) result(i, j) += a(i, k) * b(k, j);
  return result;
}

// I - 2 u u^T, for a unit vector u.
inline Matrix reflection(const Numbers& u) {
  Matrix result = identity(std::ssize(u));
  for (int i = 0; i < result.n; ++i)
    for (int j = 0; j < result.n; ++j) result(i, j) -= 2 * u[i] * u[j];
  return result;
}

inline double largest_difference(const Matrix& a, const Matrix& b) {
  return largest_difference(a.elements, b.elements);
}

// To two digits, without a minus before a zero.
inline double rounded(double value) { return std::round(value * 100) / 100 + 0.0; }
// A line a row.
inline void print(const Matrix& m) {
  for (int i = 0; i < m.n; ++i) {
    for (int j = 0; j < m.n; ++j) std::printf(" %6.2f", rounded(m(i, j)));
    std::printf("\n");
  }
}

}  // namespace learn
