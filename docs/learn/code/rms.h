// The norm of chapter 6: y = v / sigma, with sigma the deviation of v.
#pragma once

#include <cmath>

#include "numbers.h"

namespace learn {

constexpr double kEps = 1e-5;

// sigma^2 = |v|^2 / D + eps
inline double deviation(const Numbers& v) {
  return std::sqrt(dot(v, v) / static_cast<double>(std::ssize(v)) + kEps);
}

}  // namespace learn
