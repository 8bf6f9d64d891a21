// Linear maps: y = x W^T + bias, and W in the weight-normalised form of Salimans and Kingma (arXiv
// 1602.07868), whose rows have a direction and a magnitude of their own. Cost: one matrix product
// forward, two backward; keeps x and the weight.
#pragma once

#include <fprnn/autograd/tape.h>

namespace fprnn {

// x (..., K), weight (N, K), optional bias (N) -> (..., N). ShapeError: sizes do not fit.
Var linear(const Var& x, const Var& weight, const Var& bias = {});

// magnitude (N, 1), direction (N, K) -> the weight with rows magnitude_n direction_n /
// |direction_n|.
Var weight_norm(const Var& magnitude, const Var& direction);

// linear(x, weight_norm(magnitude, direction), bias).
Var weight_norm_linear(const Var& x, const Var& magnitude, const Var& direction,
                       const Var& bias = {});

}  // namespace fprnn
