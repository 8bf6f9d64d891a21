// The short causal depthwise convolution in front of a scan.
#pragma once

#include <fprnn/models/module.h>

namespace fprnn {

// weight (D, 1, W) and bias (D) start as U(+-1 / sqrt(W)); the bias does not decay.
class CausalConv : public Module {
 public:
  CausalConv(Module& parent, std::string name, const Init& init, int64_t channels, int64_t width);
  Var forward(const Var& x, const Var& state = {});  // (B, T, D) -> (B, T, D); state (B, W - 1, D)

 private:
  Parameter& weight_;
  Parameter& bias_;
};

}  // namespace fprnn
