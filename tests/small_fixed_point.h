// A small fixed point to ask questions of, solved by picard: y = tanh(shift(y) W^T + y V^T + x).
#pragma once

#include <fprnn/autograd/fixed_point.h>
#include <fprnn/autograd/picard.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/ops.h>

#include <cmath>
#include <limits>
#include <vector>

#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

using Numbers = std::vector<real>;
using Counts = std::vector<int64_t>;

inline constexpr double kRounding = kDouble ? 1e-12 : 1e-5;  // the same sum in another order
inline constexpr double kExact = kDouble ? 1e-9 : 1e-4;      // two ways to what both approach
inline constexpr real kTolerance = kDouble ? real(1e-13) : real(1e-6);
inline constexpr real kLoose = real(1e-3);
inline constexpr int64_t kCap = 500;
inline constexpr int64_t kB = 3, kT = 5, kD = 3;
inline constexpr real kNaN = std::numeric_limits<real>::quiet_NaN();

// y = tanh(shift(y) W^T + y V^T + x): causal, and with rows of V below 1 a contraction.
inline Var cell(const Var& y, const std::vector<Var>& inputs) {
  return tanh(add(add(linear(shift(y), inputs[1]), linear(y, inputs[2])), inputs[0]));
}

// x, W and V. Sequences differ in size, hence in how fast they converge.
inline std::vector<Tensor> cell_inputs(const Context& context, int64_t B = kB, int64_t T = kT,
                                       int64_t D = kD) {
  Numbers x = random(context, {B, T, D}, 1).to_vector();
  for (int64_t i = 0; i < B * T * D; ++i) x[i] *= std::pow(real(4), real(i / (T * D)) - 1);
  const real bound = real(0.9) / real(D);
  return {Tensor(context, {B, T, D}, x), random(context, {D, D}, 2, bound),
          random(context, {D, D}, 3, bound)};
}

inline Counts counts(const Solution& solution) {
  const auto iterations = solution.iterations.to_vector();
  return {iterations.begin(), iterations.end()};
}

inline Solve by_picard(real tolerance, int64_t cap = kCap) {
  return [=](const Map& f, const Tensor& start) {
    return picard(f, start, {.tolerance = tolerance, .max_iterations = cap});
  };
}

inline std::vector<Var> plain(const std::vector<Tensor>& values) {
  return {values.begin(), values.end()};
}

inline FixedPointResult solved(const Step& step, const std::vector<Tensor>& values,
                               const Tensor& start, real tolerance = kTolerance,
                               int64_t cap = kCap) {
  return fixed_point(step, plain(values), start, by_picard(tolerance, cap),
                     {.tolerance = tolerance, .unconverged = Unconverged::accept});
}

// The cotangents of the inputs when that of the solution is `seed`.
inline std::vector<Tensor> gradients(const Step& step, const std::vector<Tensor>& values,
                                     const Tensor& seed, const GradientRule& rule,
                                     const Adjoint& adjoint = {}) {
  Tape tape(seed.context());
  std::vector<Var> inputs;
  for (const Tensor& value : values) inputs.push_back(tape.variable(value));
  const auto result = fixed_point(step, inputs, zeros(seed.context(), seed.shape()),
                                  [&](const Map& f, const Tensor& start) {
                                    Solution solution = by_picard(kTolerance)(f, start);
                                    solution.adjoint = adjoint;
                                    return solution;
                                  },
                                  {.tolerance = kTolerance,
                                   // an adjoint of the caller's may be wrong on purpose
                                   .unconverged = adjoint ? Unconverged::accept : Unconverged::fail,
                                   .gradient = rule});
  return tape.vjp({result.y}, {seed}, inputs);
}

// Rows [b, b + 1) and [0, T) of a (B, T, D) tensor.
inline Tensor part(const Tensor& x, int64_t begin, int64_t end, int64_t T) {
  return slice(slice(x, 0, begin, end), 1, 0, T).value();
}

// f(y) = scale y + shift, the same everywhere.
inline Step line(real scale, real shift) {
  return [=](const Var& y, const std::vector<Var>&) { return affine(y, scale, shift); };
}
inline Map line_map(real scale, real shift) {
  return [=](const Tensor& y) { return affine(y, scale, shift).value(); };
}

}  // namespace fprnn::tests
