// Gradients against differences of the reference. The reference is double in every build, so the
// differences are too: what the float build is compared with is as exact as what the double build
// is.
#pragma once

#include "run_case.h"

namespace fprnn::tests {

struct GradientError {
  double error;       // normwise, relative
  std::string where;  // the first element that is off
};

// The gradient of sum_i <seed_i, output_i> with respect to one input, against fourth-order central
// differences: every element of small inputs, two random directions through large ones.
GradientError gradient_error(const OpCase& entry, const Values& inputs, const Values& seeds,
                             size_t input, const std::vector<real>& gradient);

}  // namespace fprnn::tests
