// Which v the gradient of a fixed point takes, with g the cotangent of the solution and J = df / dy
// there.
#pragma once

#include <fprnn/core/real.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace fprnn {

// one_step, the paper's:  v = g
// neumann:                v = sum over k <= terms of (J^T)^k g
// exact:                  v = g + J^T v, to the tolerance
struct GradientRule {
  // The three rules.
  enum class Kind { one_step, neumann, exact };
  Kind kind = Kind::one_step;  // which of the above
  int64_t terms = 0;
  real tolerance = kDouble ? static_cast<real>(1e-13) : static_cast<real>(1e-6);
  int64_t max_iterations = 1000;
  bool operator==(const GradientRule&) const = default;
};
// one-step, neumann:K with K up to 10,000, exact. ValueError: another name.
GradientRule gradient_named(std::string_view name);
std::string name_of(const GradientRule& rule);

}  // namespace fprnn
