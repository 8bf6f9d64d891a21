// Sums over what blocks leave behind: shares in memory, added in an order that depends on sizes alone.
#pragma once

#include <fprnn/core/tensor.h>
#include <fprnn/cuda/reduce.cuh>

namespace fprnn::cuda {

// (outer, middle, inner) that a kernel writes and that are then summed over the middle axis; a
// share that is the only one is the sum.
struct Shares {
  real* to;
  int64_t outer, middle, inner;
  Tensor scratch;

  Shares(Cuda cuda, real* to, int64_t outer, int64_t middle, int64_t inner)
      : to(to), outer(outer), middle(middle), inner(inner) {
    if (middle != 1) scratch = Tensor(cuda.context, Shape{outer, middle, inner});
  }
  real* data() const { return scratch.defined() ? scratch.data() : to; }
};

// All of them in one launch.
inline void add_shares(Cuda cuda, std::initializer_list<const Shares*> all) {
  std::vector<SumMiddle> sums;
  for (const Shares* of : all)
    if (of->scratch.defined())
      sums.push_back({.x = of->scratch.data(),
                      .y = of->to,
                      .outer = of->outer,
                      .middle = of->middle,
                      .inner = of->inner});
  sum_together(cuda, sums);
}

}  // namespace fprnn::cuda
