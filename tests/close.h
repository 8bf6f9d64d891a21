// How near one list of numbers is to another: the Euclidean length of the difference over that of
// the truth.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace fprnn::tests {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class X>
double length(const std::vector<X>& x) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  return std::sqrt(squares);
}

// |x - y| / max(|y|, floor), absolute where that is 0; infinity where a number is not finite or one
// is missing.
template <class X, class Y>
double relative_error(const std::vector<X>& x, const std::vector<Y>& y, double floor = 0) {
  if (x.size() != y.size()) return kInfinity;
  std::vector<double> difference(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    difference[i] = static_cast<double>(x[i]) - static_cast<double>(y[i]);
  const double scale = std::max(length(y), floor), error = length(difference);
  if (!std::isfinite(scale) || !std::isfinite(error)) return kInfinity;
  return scale > 0 ? error / scale : error;
}

// Where the two first differ by more than the tolerance allows the largest element, for the
// message.
template <class X, class Y>
std::string first_difference(const std::vector<X>& x, const std::vector<Y>& y, double tolerance) {
  if (x.size() != y.size()) return fmt::format("{} numbers instead of {}", x.size(), y.size());
  double largest = 0;
  for (const double value : y) largest = std::max(largest, std::abs(value));
  for (size_t i = 0; i < x.size(); ++i)
    if (!(std::abs(double(x[i]) - double(y[i])) <= tolerance * (largest > 0 ? largest : 1)))
      return fmt::format("at {} of {}: {} instead of {}", i, x.size(), x[i], y[i]);
  return "no single element differs as much";
}

template <class X, class Y>
void check_close(const std::string& name, const std::vector<X>& x, const std::vector<Y>& y,
                 double tolerance, double floor = 0) {
  const double error = relative_error(x, y, floor);
  CHECK_MESSAGE(error <= tolerance, name << ": error " << error << " > " << tolerance << ", "
                                         << first_difference(x, y, tolerance));
}

}  // namespace fprnn::tests
