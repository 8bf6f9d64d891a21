// The tensors of one sweep of FP-Mamba's sequential solver, random: what the solver's ladder is measured and
// tested with.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/core/vector.h>
#include <fprnn/ops/fp_mamba_sweep.h>

#include <cmath>

namespace fprnn::ladder {

struct SolveSizes {
  int64_t B = 512, T = 17, D = 256, N = 16;
  real scale = 1;  // of the Householder factor: 1 contracts
  bool gate = false;
};

struct SolveCase {
  Tensor x, projected, delta, z, weight_y, a, skip, delta_bias, norm_weight, norm_bias;
  Tensor y, state_out, product, residual;
  IntTensor iterations;
  FpMambaSweep sweep;

  SolveCase(const Context& context, const SolveSizes& sizes) {
    const auto [B, T, D, N, scale, gate] = sizes;
    const int64_t P = (D + 1 + 2 * N + 3) / 4 * 4;
    const auto reach = 1 / std::sqrt(static_cast<real>(D));
    Rng rng;
    x = normal(context, {B, T, D}, 0, 1, rng);
    projected = normal(context, {B, T, P}, 0, 1, rng);
    delta = uniform(context, {B, T, D}, -1, 1, rng);
    if (gate) z = normal(context, {B, T, D}, 0, 1, rng);
    weight_y = uniform(context, {P, D}, -reach, reach, rng);
    a = uniform(context, {D, N}, -static_cast<real>(N), -1, rng);
    skip = full(context, {D}, 1);
    delta_bias = uniform(context, {D}, -6, -2, rng);
    norm_weight = full(context, {D}, 1);
    norm_bias = uniform(context, {D}, real(-0.1), real(0.1), rng);
    y = Tensor(context, {B, T, D});
    state_out = Tensor(context, {B, D, N});
    product = Tensor(context, {B, T, P});
    iterations = int_zeros(context, {B});
    residual = Tensor(context, {B});
    sweep = {.x = x.data(),
             .projected = projected.data(),
             .delta = delta.data(),
             .z = gate ? z.data() : nullptr,
             .keep = nullptr,
             .weight_y = weight_y.data(),
             .a = a.data(),
             .skip = skip.data(),
             .delta_bias = delta_bias.data(),
             .norm_weight = norm_weight.data(),
             .norm_bias = norm_bias.data(),
             .previous = nullptr,
             .state = nullptr,
             .y = y.data(),
             .state_out = state_out.data(),
             .iterations = iterations.data(),
             .residual = residual.data(),
             .trace = {},
             .B = B,
             .T = T,
             .D = D,
             .N = N,
             .P = P,
             .mixer = {.rank = 1,
                       .in_order = true,
                       .scale = scale,
                       .norm = KroneckerNorm::row,
                       .m1 = 1,
                       .m2 = D},
             .bc_norm = true,
             .state_wanted = true,
             .eps = real(1e-5),
             .tolerance = real(5e-5),
             .max_iterations = 1000};
    sweep.trace.product = product.data();
  }
};

}  // namespace fprnn::ladder
