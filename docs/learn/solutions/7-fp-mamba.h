// Solutions of the exercises of chapter 7, docs/learn/exercises/7-fp-mamba.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
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

// 7.1
inline Equation equation_of(const Step& step) {
  const size_t D = step.x.size(), N = step.b.size();
  Equation result{Vector(D), Vector(D)};
  double written = 0;  // b . c: how much of what is written now is read now
  for (size_t n = 0; n < N; ++n) written += step.b[n] * step.c[n];
  for (size_t d = 0; d < D; ++d) {
    const double gate = step.z[d] / (1 + std::exp(-step.z[d]));
    double remembered = 0;
    for (size_t n = 0; n < N; ++n)
      remembered += step.decay[d * N + n] * step.H[d * N + n] * step.c[n];
    const double gain = step.dt[d] * written + step.skip[d];
    result.gain[d] = gate * gain;
    result.offset[d] = gate * (remembered + gain * step.mixed_input[d]);
  }
  return result;
}

// 7.2
inline double whole_words(const std::vector<int>& answers, const std::vector<int>& targets,
                          size_t T) {
  const size_t B = answers.size() / T;
  double right = 0;
  for (size_t b = 0; b < B; ++b) {
    bool all = true;
    for (size_t t = b * T; t < (b + 1) * T; ++t) all = all && answers[t] == targets[t];
    right += all ? 1 : 0;
  }
  return right / static_cast<double>(B);
}

// 7.3
inline double spectral_radius(const Vector& m) {
  const double half = (m[0] + m[3]) / 2, determinant = m[0] * m[3] - m[1] * m[2];
  const double square = half * half - determinant;
  if (square < 0) return std::sqrt(determinant);  // a complex pair: its product is |eigenvalue|^2
  return std::abs(half) + std::sqrt(square);
}

// 7.4
inline double pulled(double angle, int k) {
  return angle - std::sin(k * angle) / k;  // slope 1 - cos(k angle): 0 at the k angles
}

}  // namespace chapter7
