// Exercises of chapter 4. Replace each throw by your solution; `exercises -tc='4.*'` tests them.
#pragma once

#include <functional>
#include <stdexcept>
#include <vector>

namespace chapter4 {

using Numbers = std::vector<double>;

// 4.1 y solves y = tanh(w y + x), with |w| < 1. Given the solution y, return dy/dx and dy/dw.
struct Slopes {
  double to_x = 0, to_w = 0;
};
inline Slopes slopes(double w, double y) { throw std::logic_error("exercise 4.1 is not solved"); }

// 4.2 The derivatives of a function of several numbers at x by central differences with the given step. Do
// not change the function, and call it twice for each number.
inline Numbers central_differences(const std::function<double(const Numbers&)>& f, const Numbers& x,
                                   double step) {
  throw std::logic_error("exercise 4.2 is not solved");
}

// 4.3 v with v = g + J^T v to a residual max |g + J^T v - v| of at most `tolerance`, by iteration from v = g.
// Return an empty vector after `most` products with J^T without success.
inline Numbers adjoint(const Numbers& g,
                       const std::function<Numbers(const Numbers&)>& times_transpose,
                       double tolerance, int most) {
  throw std::logic_error("exercise 4.3 is not solved");
}

// 4.4 The same for J = gain_i factor u_i u_j (row i, column j), the step's with a gain for each channel, with
// no iteration and in a number of operations that grows as the number of channels.
inline Numbers adjoint_of_step(const Numbers& g, const Numbers& gain, double factor,
                               const Numbers& u) {
  throw std::logic_error("exercise 4.4 is not solved");
}

}  // namespace chapter4
