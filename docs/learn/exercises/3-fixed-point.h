// Exercises of chapter 3. Replace each throw by your solution; `exercises -tc='3.*'` tests them.
#pragma once

#include <array>
#include <stdexcept>
#include <vector>

namespace chapter3 {

using Numbers = std::vector<double>;
using Matrix2 = std::array<double, 4>;  // {m00, m01, m10, m11}

// 3.1 The solution y of y = offset + factor u (u . y), with u of length 1 and factor not 1, without iteration.
inline Numbers solution(const Numbers& offset, const Numbers& u, double factor) {
  throw std::logic_error("exercise 3.1 is not solved");
}

// 3.2 One iteration over a whole sequence with one channel, from h^(l-1) to h^l:
//   h^l_t = lambda_t h^l_{t-1} + q_t b_t + (1 - q_t) h^(l-1)_t,  with h^l_{-1} = 0
inline Numbers iterated(const Numbers& lambda, const Numbers& q, const Numbers& b,
                        const Numbers& before) {
  throw std::logic_error("exercise 3.2 is not solved");
}

// 3.3 The dense transition A with which h_t = A h_{t-1} at the fixed point of
//   h_t = L h_{t-1} + (I - L) (I - Q) h_t,  L = diag(lambda0, lambda1), both between 0 and 1
inline Matrix2 transition(double lambda0, double lambda1, const Matrix2& q) {
  throw std::logic_error("exercise 3.3 is not solved");
}

// 3.4 An iteration makes each error at least `factor` times as small, 0 < factor < 1. After how many
// iterations is an error of 1 certainly at most `tolerance`, 0 < tolerance < 1? The smallest such number.
inline int iterations_needed(double factor, double tolerance) {
  throw std::logic_error("exercise 3.4 is not solved");
}

// 3.5 The eigenvalues of f's matrix lie anywhere between least and most, least < most < 1. Which damping d
// makes y <- d f(y) + (1 - d) y converge fastest in the worst case?
inline double best_damping(double least, double most) {
  throw std::logic_error("exercise 3.5 is not solved");
}

}  // namespace chapter3
