// The channel mixer of a whole time step in one kernel (ops/fp_mamba_sweep.h, ops/fp_rnn_sweep.h), made of
// the numbers that are projected from x_t and y_{t-1}: models/mixer.h in the words of a contract.
#pragma once

#include <fprnn/ops/kronecker.h>

namespace fprnn {

struct SweepMixer {
  int64_t rank;   // 0: a Kronecker product
  bool in_order;  // householder; false: dplr
  real scale;
  // Of a Kronecker product.
  KroneckerNorm norm;
  int64_t m1, m2;
};

}  // namespace fprnn
