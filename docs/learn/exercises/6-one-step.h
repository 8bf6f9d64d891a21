// Exercises of chapter 6. Replace each throw by your solution; `exercises -tc='6.*'` tests them.
#pragma once

#include <functional>
#include <stdexcept>
#include <vector>

namespace chapter6 {

using Vector = std::vector<double>;
using Function = std::function<double(double)>;

// 6.1 The y of y = A + S . (a u (u . y)): one factor, no norm. Use no iteration and no matrix.
inline Vector solve_linear(const Vector& offset, const Vector& gain, const Vector& u, double a) {
  throw std::logic_error("exercise 6.1 is not solved");
}

// 6.2 The largest root of ratio(sigma) = 1 between low and high, within 1e-9. ratio is continuous there, and
// below 1 at high. Roots are at least `apart` from each other, and there is one.
inline double largest_root(const Function& ratio, double low, double high, double apart) {
  throw std::logic_error("exercise 6.2 is not solved");
}

// 6.3 Whether plain iteration x <- f(x) comes back to the root after a small disturbance. No root is on the
// border between both.
inline bool attracts(const Function& f, double root) {
  throw std::logic_error("exercise 6.3 is not solved");
}

// 6.4 The v of v = w + J^T v for J = W U, with the columns of W as w_i and the rows of U as u_i, two of each:
// J = w_1 u_1^T + w_2 u_2^T. Solve a system of size 2, not of size D.
inline Vector adjoint(const Vector& w, const Vector& w1, const Vector& w2, const Vector& u1,
                      const Vector& u2) {
  throw std::logic_error("exercise 6.4 is not solved");
}

}  // namespace chapter6
