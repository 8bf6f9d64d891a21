// Exercises of chapter 7. Replace each throw by your solution; `exercises -tc='7.*'` tests them.
#pragma once

#include <stdexcept>
#include <vector>

namespace chapter7 {

using Vector = std::vector<double>;

// What one step of FP-Mamba knows before it is solved, but for the mixer. H is H_{t-1} (D, N), row by row.
struct Step {
  Vector x, z, dt;     // (D)
  Vector b, c;         // (N)
  Vector decay, H;     // (D, N): exp(dt A), the scan's state
  Vector skip;         // (D): d in the text
  Vector mixed_input;  // (D): Q x
};
// Of y = LayerNorm(offset + gain . ((I - Q) y)).
struct Equation {
  Vector offset, gain;  // (D)
};

// 7.1 The equation of the step. SiLU(z) = z / (1 + exp(-z)).
inline Equation equation_of(const Step& step) {
  throw std::logic_error("exercise 7.1 is not solved");
}

// 7.2 The share of words all of whose answers are right. answers, targets (B, T), row by row.
inline double whole_words(const std::vector<int>& answers, const std::vector<int>& targets,
                          size_t T) {
  throw std::logic_error("exercise 7.2 is not solved");
}

// 7.3 The spectral radius, the largest |eigenvalue|, of the 2 x 2 matrix m, row by row: the slope of a
// map of the plane at its fixed point. Below 1 small errors vanish in the end. Eigenvalues may be complex.
inline double spectral_radius(const Vector& m) {
  throw std::logic_error("exercise 7.3 is not solved");
}

// 7.4 A memory on the circle: from an angle the angle after one step, a continuous function. The k angles
// 2 pi i / k are to stay where they are. Any other, but those halfway between two of them, is to come to
// the nearest one within 100 steps, to 1e-6.
inline double pulled(double angle, int k) { throw std::logic_error("exercise 7.4 is not solved"); }

}  // namespace chapter7
