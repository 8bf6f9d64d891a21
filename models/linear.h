// Linear maps as modules, plain and weight-normalised.
#pragma once

#include <fprnn/models/module.h>
#include <fprnn/ops/linear.h>

namespace fprnn {

// y = x weight^T (+ bias); weight (outputs, inputs) starts as U(+-1 / sqrt(inputs)) divided by
// `shrink`.
struct LinearOptions {
  bool bias = false;  // starts at 0
  double shrink = 1;
};
class Linear : public Module {
 public:
  Linear(Module& parent, std::string name, const Init& init, int64_t inputs, int64_t outputs,
         const LinearOptions& options = {});
  Var forward(const Var& x);  // (..., inputs) -> (..., outputs)
  Parameter& weight;
  Parameter* const bias;  // null without
};

// The same with rows g_j v_j / |v_j|, and g_j = |v_j| at the start, so that the map starts as
// Linear's. Parameters: parametrizations.weight.original0 = g (outputs, 1), original1 = v (outputs,
// inputs), bias.
class WeightNormLinear : public Module {
 public:
  WeightNormLinear(Module& parent, std::string name, const Init& init, int64_t inputs,
                   int64_t outputs, const LinearOptions& options = {});
  Var forward(const Var& x);
  Var weight(const Var& like);           // the normalised one, on the tape of `like`
  WeightSource source(const Var& like);  // the same, to be put together with others
  Parameter& direction;
  Parameter& magnitude;
  Parameter* const bias;
};

}  // namespace fprnn
