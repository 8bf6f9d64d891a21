// The equation that a local solve answers, one token's: Q factor by factor and the norm, in plain loops over double.
#pragma once

#include <fprnn/ops/fp_mamba_solve.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "small_model.h"

namespace fprnn::tests {

using Vector = std::vector<double>;

// One token of a tensor (tokens, size).
inline Vector part(const Tensor& tensor, int64_t token, int64_t size) {
  const auto all = tensor.to_vector();
  return {all.begin() + token * size, all.begin() + (token + 1) * size};
}

inline double dot(const Vector& x, const Vector& y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) total += x[i] * y[i];
  return total;
}

inline double mean(const Vector& x) { return dot(x, Vector(x.size(), 1)) / double(x.size()); }

// matrix (n, n) row by row.
inline Vector dense_solve(Vector matrix, Vector b) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < n; ++i)
      if (std::abs(matrix[i * n + k]) > std::abs(matrix[pivot * n + k])) pivot = i;
    for (size_t j = 0; j < n; ++j) std::swap(matrix[k * n + j], matrix[pivot * n + j]);
    std::swap(b[k], b[pivot]);
    for (size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double factor = matrix[i * n + k] / matrix[k * n + k];
      for (size_t j = k; j < n; ++j) matrix[i * n + j] -= factor * matrix[k * n + j];
      b[i] -= factor * b[k];
    }
  }
  for (size_t k = 0; k < n; ++k) b[k] /= matrix[k * n + k];
  return b;
}

// The equation of one token.
struct Equation {
  Vector u, alpha, offset, gain, weight, bias;
  double scale, eps;
  bool in_order;

  Equation(const LocalProblem& problem, int64_t token) {
    const int64_t r = problem.u.size(-2), D = problem.u.size(-1);
    u = part(problem.u, token, r * D), alpha = part(problem.alpha, token, r);
    offset = part(problem.offset, token, D), gain = part(problem.gain, token, D);
    if (problem.weight.defined()) weight = part(problem.weight, 0, D);
    if (problem.bias.defined()) bias = part(problem.bias, 0, D);
    scale = problem.scale, eps = problem.eps, in_order = problem.in_order;
  }
  size_t D() const { return offset.size(); }
  double shift(size_t d) const { return bias.empty() ? 0 : bias[d]; }

  // S . ((I - Q) v).
  Vector fed_back(const Vector& v) const {
    Vector q = v, result(D());
    for (size_t i = 0; i < alpha.size(); ++i) {
      const Vector row(u.begin() + int64_t(i * D()), u.begin() + int64_t((i + 1) * D()));
      const double amount = scale * alpha[i] * dot(row, in_order ? q : v);
      for (size_t d = 0; d < D(); ++d) q[d] -= amount * row[d];
    }
    for (size_t d = 0; d < D(); ++d) result[d] = gain[d] * (v[d] - q[d]);
    return result;
  }
  // What enters N, centred if N is a LayerNorm, and sigma.
  Vector centred(const Vector& y, double& sigma) const {
    Vector z = fed_back(y);
    for (size_t d = 0; d < D(); ++d) z[d] += offset[d];
    const double center = bias.empty() ? 0 : mean(z);
    for (double& value : z) value -= center;
    sigma = std::sqrt(dot(z, z) / double(D()) + eps);
    return z;
  }
  Vector map(const Vector& y) const {
    double sigma = 1;
    Vector z = fed_back(y);
    for (size_t d = 0; d < D(); ++d) z[d] += offset[d];
    if (weight.empty()) return z;
    z = centred(y, sigma);
    for (size_t d = 0; d < D(); ++d) z[d] = weight[d] * z[d] / sigma + shift(d);
    return z;
  }
  // y where sigma is given, and the equation linear.
  Vector at(double sigma) const {
    double unused = 0;
    Vector matrix(D() * D()), start = centred(Vector(D(), 0), unused);
    for (size_t k = 0; k < D(); ++k) {
      Vector unit(D(), 0);
      unit[k] = 1;
      const Vector column = centred(unit, unused);
      for (size_t d = 0; d < D(); ++d)
        matrix[d * D() + k] = unit[d] - weight[d] * (column[d] - start[d]) / sigma;
    }
    for (size_t d = 0; d < D(); ++d) start[d] = weight[d] * start[d] / sigma + shift(d);
    return dense_solve(matrix, start);
  }
  double residual(const Vector& y) const {
    const Vector next = map(y);
    double worst = 0, size = 0;
    for (size_t d = 0; d < D(); ++d) {
      if (!(std::abs(next[d] - y[d]) <= worst)) worst = std::abs(next[d] - y[d]);
      size = std::max(size, std::abs(next[d]));
    }
    return worst / (size + 1e-8);
  }
  // J x at y.
  Vector derivative(const Vector& y, const Vector& x) const {
    Vector z = fed_back(x);
    if (weight.empty()) return z;
    double sigma = 1;
    Vector n = centred(y, sigma);
    for (double& value : n) value /= sigma;
    const double center = bias.empty() ? 0 : mean(z), along = dot(n, z) / double(D());
    for (size_t d = 0; d < D(); ++d) z[d] = weight[d] * (z[d] - center - n[d] * along) / sigma;
    return z;
  }
  // y after `count` maps of 0.
  Vector iterated(int64_t count) const {
    Vector y(D(), 0);
    for (int64_t i = 0; i < count; ++i) y = map(y);
    return y;
  }
};

// (I - J)^-T w.
inline Vector dense_adjoint(const Equation& equation, const Vector& y, const Vector& w) {
  const size_t D = w.size();
  Vector transposed(D * D);
  for (size_t k = 0; k < D; ++k) {
    Vector unit(D, 0);
    unit[k] = 1;
    const Vector column = equation.derivative(y, unit);
    for (size_t d = 0; d < D; ++d) transposed[k * D + d] = unit[d] - column[d];
  }
  return dense_solve(transposed, w);
}

}  // namespace fprnn::tests
