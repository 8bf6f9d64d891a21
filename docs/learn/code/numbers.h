// Small vectors and matrices in double, for mathematics written out.
#pragma once

#include <fprnn/core/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace learn {

using Numbers = std::vector<double>;

// The name and the numbers, with three digits after the point, as one line.
inline void print(const char* name, const Numbers& numbers) {
  std::printf("%s", name);
  for (const double number : numbers) std::printf(" %7.3f", std::round(number * 1000) / 1000 + 0.0);
  std::printf("\n");
}

// Of the same length.
inline double dot(const Numbers& x, const Numbers& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}
inline double length(const Numbers& x) { return std::sqrt(dot(x, x)); }
// x + factor y
inline Numbers plus(const Numbers& x, double factor, const Numbers& y) {
  Numbers sum = x;
  for (size_t i = 0; i < x.size(); ++i) sum[i] += factor * y[i];
  return sum;
}
inline double largest_difference(const Numbers& x, const Numbers& y) {
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
  return largest;
}

// A square matrix, row after row.
struct Matrix {
  size_t n = 0;
  Numbers x = Numbers(n * n);
  double& operator()(size_t row, size_t column) { return x[row * n + column]; }
  double operator()(size_t row, size_t column) const { return x[row * n + column]; }
};
inline Matrix identity(size_t n) {
  Matrix one{n};
  for (size_t i = 0; i < n; ++i) one(i, i) = 1;
  return one;
}
inline Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix product{a.n};
  for (size_t i = 0; i < a.n; ++i)
    for (size_t j = 0; j < a.n; ++j)
      for (size_t k = 0; k < a.n; ++k) product(i, j) += a(i, k) * b(k, j);
  return product;
}
inline Numbers operator*(const Matrix& a, const Numbers& v) {
  Numbers product(a.n);
  for (size_t i = 0; i < a.n; ++i)
    for (size_t j = 0; j < a.n; ++j) product[i] += a(i, j) * v[j];
  return product;
}

// As the library's, of the given shape, and back.
inline fprnn::Tensor tensor_of(const fprnn::Context& context, const fprnn::Shape& shape,
                               const Numbers& x) {
  return {context, shape, std::vector<fprnn::real>(x.begin(), x.end())};
}
inline Numbers numbers_of(const fprnn::Tensor& x) {
  const std::vector<fprnn::real> values = x.to_vector();
  return {values.begin(), values.end()};
}

}  // namespace learn
