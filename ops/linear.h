// Linear maps: y = x W^T + bias, and W in the weight-normalised form of Salimans and Kingma (arXiv
// 1602.07868), whose rows have a direction and a magnitude of their own. Cost: one matrix product
// forward, two backward; keeps x and the weight.
#pragma once

#include <fprnn/autograd/tape.h>
#include <fprnn/core/device.h>

namespace fprnn {

// x (..., K), weight (N, K), optional bias (N) -> (..., N). ShapeError: sizes do not fit.
Var linear(const Var& x, const Var& weight, const Var& bias = {});
// The same without a bias where what it gives, y (..., N), is known already, or those rows of it that are used.
Var linear_known(const Var& x, const Var& weight, const Tensor& y);

// x (..., K), weight (N, K) -> linear of these numbers of rows of the weight, one after the other,
// as tensors of their own: (..., rows) each. ValueError: rows that do not add up to N.
std::vector<Var> linear_parts(const Var& x, const Var& weight, const std::vector<int64_t>& rows);

// magnitude (N, 1), direction (N, K) -> the weight with rows magnitude_n direction_n /
// |direction_n|.
Var weight_norm(const Var& magnitude, const Var& direction);

// linear(x, weight_norm(magnitude, direction), bias).
Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction,
                       const Var& bias = {});

// On a GPU the weight norm is one kernel each way.
struct WeightNormForward {
  const real* magnitude;  // (N)
  const real* direction;  // (N, K)
  real* weight;           // (N, K)
  int64_t N, K;
};
struct WeightNormBackward {
  const real* magnitude;  // (N)
  const real* direction;  // (N, K)
  const real* dweight;    // (N, K)
  real* dmagnitude;       // (N)
  real* ddirection;       // (N, K)
  int64_t N, K;
};
bool supports(Cuda, const WeightNormForward&);
void run(Cuda, const WeightNormForward&);
void run(Cuda, const WeightNormBackward&);

}  // namespace fprnn
