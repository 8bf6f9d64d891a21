// The products of matrices between the steps of a sweep through time, of any layer: what the
// numbers p of a step have from the y before, p = ... + W y_{t-1}, and back.
#pragma once

#include <fprnn/core/device.h>
#include <fprnn/ops/matmul.h>

namespace fprnn::cuda {

// out (B, P), rows ld apart, <- y_{t-1} W^T, of y or, at the first step, of `previous`.
template <class Sweep>
void multiply_previous(Cuda cuda, const Sweep& in, int64_t t, real* out, int64_t ld) {
  run(cuda, Gemm{.a = t == 0 ? in.previous : in.y + (t - 1) * in.D,
                 .b = in.weight_y,
                 .c = out,
                 .M = in.B,
                 .N = in.P,
                 .K = in.D,
                 .lda = t == 0 ? in.D : in.T * in.D,
                 .ldb = in.D,
                 .ldc = ld,
                 .transpose_b = true});
}

// dprevious (B, D) <- dp (B, P) W.
template <class Sweep>
void multiply_back(Cuda cuda, const Sweep& in, const real* dp, real* dprevious) {
  run(cuda, Gemm{.a = dp,
                 .b = in.weight_y,
                 .c = dprevious,
                 .M = in.B,
                 .N = in.D,
                 .K = in.P,
                 .lda = in.P,
                 .ldb = in.D,
                 .ldc = in.D});
}

}  // namespace fprnn::cuda
