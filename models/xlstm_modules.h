// What the two blocks of the xLSTM share (Beck et al., arXiv 2405.04517).
#pragma once

#include <fprnn/models/module.h>
#include <fprnn/models/modules.h>

namespace fprnn {

// LayerNorm over each head's channels apart, without a bias, then times 1 + weight; weight (width)
// starts at 0 and does not decay. `heads` divides width.
class HeadNorm : public Module {
 public:
  HeadNorm(Module& parent, std::string name, const Init& init, int64_t width, int64_t heads = 1,
           real eps = kNormEps);
  Var forward(const Var& x);  // (..., width) -> (..., width)

 private:
  Parameter& weight_;
  int64_t heads_;
  Tensor ones_, zeros_;  // (width / heads)
  real eps_;
};

// Blocks of the channels, each by a matrix of its own; weight (blocks, d, d) with d = width / blocks
// starts as `initial`.
class BlockLinear : public Module {
 public:
  BlockLinear(Module& parent, std::string name, Tensor initial, bool bias = false);
  Var forward(const Var& x);  // (..., width) -> (..., width)

 private:
  Parameter& weight_;
  Parameter* const bias_;  // (width), starts at 0; null without
};

// The authors' initial weights: N(0, 2 / (5 d)) in general, N(0, (2 / (layers sqrt d))^2) in front
// of a residual.
Tensor small_weight(const Init& init, const Shape& shape, int64_t d_model);
Tensor last_weight(const Init& init, const Shape& shape, int64_t d_model, int64_t layers);

}  // namespace fprnn
