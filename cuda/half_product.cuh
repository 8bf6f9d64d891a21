// Products of a matrix and many vectors by tensor cores, with both in 16-bit numbers
// (cuda/half_rows.cuh).
#pragma once

#include <fprnn/cuda/half_rows.cuh>

namespace fprnn::cuda {

struct HalfProduct {
  const __half* vectors;  // (count, D), at a multiple of 16 bytes, D a multiple of 64
  const float* factor;    // (count): vector i is factor[i] times what is kept
  HalfRows w;             // P rows
  real* out;              // (P) for each vector, `stride` apart
  int64_t stride;
  int count, P, D;
};

void multiply_halves(Cuda cuda, const HalfProduct& args);

}  // namespace fprnn::cuda
