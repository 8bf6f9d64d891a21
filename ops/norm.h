// Normalisation over the last axis. Cost: one read and one write an element; backward reads the
// input and the cotangent, recomputes the statistics, and writes the gradient; it keeps the input
// and the weight.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x (..., D), weight (D), bias (D) -> (..., D), with the population variance (Ba, Kiros, Hinton,
// arXiv 1607.06450),
//   weight (x - mean) / sqrt(variance + eps) + bias
// ShapeError: sizes that do not fit; ValueError: eps negative.
Var layer_norm(const Var& x, const Var& weight, const Var& bias, real eps);

// x (..., D), weight (D) -> (..., D) (Zhang, Sennrich, arXiv 1910.07467),
//   weight x / sqrt(mean(x^2) + eps)
Var rms_norm(const Var& x, const Var& weight, real eps);

// x (..., D) -> (..., D), nrm of the paper, with the Euclidean length:
//   x / max(|x|, eps)
Var l2_normalize(const Var& x, real eps);

// N of a fixed-point layer, which its parameters name: layer_norm with weight and bias, rms_norm
// with a weight alone, x itself with neither.
Var any_norm(const Var& x, const Var& weight, const Var& bias, real eps);

// Of an equation with such an N. ShapeError: a bias without a weight.
void check_norm(std::string_view op, const Tensor& weight, const Tensor& bias);

enum class Norm { layer, rms, l2 };

struct NormForward {
  Norm norm;
  const real* x;       // (rows, D)
  const real* weight;  // (D), null for l2
  const real* bias;    // (D), layer only
  real* y;             // (rows, D)
  int64_t rows, D;
  real eps;
};
// Parameter gradients are sums over rows, in pieces of kNormPiece rows that are added in order.
struct NormBackward : NormForward {  // bias and y are not read
  const real* dy = nullptr;          // (rows, D)
  real* dx = nullptr;                // (rows, D)
  real* dweight = nullptr;           // (D), null for l2
  real* dbias = nullptr;             // (D), layer only
  bool accumulate = false;           // dx is added to
};
void run(Cpu, const NormForward&);
void run(Cpu, const NormBackward&);
void run(Cuda, const NormForward&);
void run(Cuda, const NormBackward&);

}  // namespace fprnn
