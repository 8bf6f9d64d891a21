// The channel mixer as plain numbers, for kernels that do a whole time step (ops/fp_mamba_sweep.h,
// ops/fp_rnn_sweep.h) and compute Q from the projections of x_t and y_{t-1} as models/mixer.h
// defines.
#pragma once

#include <fprnn/ops/kronecker.h>

namespace fprnn {

struct SweepMixer {
  int64_t rank;   // 0: a Kronecker product
  bool in_order;  // householder; false: dplr
  real scale;     // of I - Q
  // Of a Kronecker product only.
  KroneckerNorm norm;
  int64_t m1, m2;
};

}  // namespace fprnn
