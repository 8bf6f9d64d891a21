// Vectors in double, for mathematics written out.
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
