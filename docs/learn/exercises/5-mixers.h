// Exercises of chapter 5. Replace each throw by your solution; `exercises -tc='5.*'` tests them.
#pragma once

#include <stdexcept>
#include <vector>

namespace chapter5 {

using Vector = std::vector<double>;

// A Householder mixer: for each factor in order v <- v - a_i u_i (u_i . v), with unit vectors u_i.
struct Mixer {
  std::vector<Vector> u;
  Vector a;  // scale times gate
};

// 5.1 Q v, without any matrix.
inline Vector apply(const Mixer& q, const Vector& v) {
  throw std::logic_error("exercise 5.1 is not solved");
}

// 5.2 The v of which Q v is given. No a_i is 1, where a factor would be a projection.
inline Vector undo(const Mixer& q, const Vector& mixed) {
  throw std::logic_error("exercise 5.2 is not solved");
}

// 5.3 A mixer of two reflections (a_i = 2) that takes the unit vector x to the unit vector y and leaves alone
// what is at right angles to both. x and y are neither equal nor opposite.
inline Mixer rotation(const Vector& x, const Vector& y) {
  throw std::logic_error("exercise 5.3 is not solved");
}

// 5.4 The least number of reflections whose product is the permutation i -> p[i] of n things, as a matrix.
inline int reflections(const std::vector<int>& p) {
  throw std::logic_error("exercise 5.4 is not solved");
}

// 5.5 v - L^T V R for v as a matrix V of m1 rows and m2 columns, row by row; left (m1, m1), right (m2, m2),
// row by row, too. Use m1 m2 (m1 + m2) multiply-adds: `multiply_adds` is to be raised by one for each.
inline Vector kronecker(const Vector& left, const Vector& right, const Vector& v, size_t m1,
                        size_t m2, long& multiply_adds) {
  throw std::logic_error("exercise 5.5 is not solved");
}

}  // namespace chapter5
