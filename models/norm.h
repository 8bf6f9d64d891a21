// Normalisations as modules, over the last axis. Weights start at 1, biases at 0; neither decays.
#pragma once

#include <fprnn/models/module.h>

namespace fprnn {

inline constexpr real kNormEps = static_cast<real>(1e-5);

class RmsNorm : public Module {
 public:
  RmsNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps = kNormEps);
  Var forward(const Var& x);

 private:
  Parameter& weight_;
  real eps_;
};

class LayerNorm : public Module {
 public:
  LayerNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps = kNormEps);
  Var forward(const Var& x);
  Parameter& weight;
  Parameter& bias;

 private:
  real eps_;
};

}  // namespace fprnn
