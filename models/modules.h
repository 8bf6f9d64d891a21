// The modules that layers are made of: linear maps, norms, the short convolution in front of a
// scan, token embeddings.
#pragma once

#include <fprnn/models/module.h>
#include <fprnn/ops/linear.h>

#include <memory>
#include <utility>

namespace fprnn {

// A module that only some options have: null unless wanted.
template <class T, class... Args>
std::unique_ptr<T> make_if(bool wanted, Args&&... args) {
  return wanted ? std::make_unique<T>(std::forward<Args>(args)...) : nullptr;
}

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
  Var forward(const Var& x);  // (..., inputs) -> (..., outputs)
  // The weight on the tape of `like`, to be put together with others.
  WeightSource source(const Var& like) const;
  Parameter& direction;
  Parameter& magnitude;
  Parameter* const bias;
};

// What norms add to a mean square.
inline constexpr real kNormEps = static_cast<real>(1e-5);

// Over the last axis, like the next; weights start at 1, biases at 0, and neither decays.
class RmsNorm : public Module {
 public:
  RmsNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps = kNormEps);
  Var forward(const Var& x);  // (..., D), normed over D

 private:
  Parameter& weight_;
  real eps_;
};

// Over the last axis, with weight and bias (ops/norm.h).
class LayerNorm : public Module {
 public:
  LayerNorm(Module& parent, std::string name, const Init& init, int64_t width, real eps = kNormEps);
  Var forward(const Var& x);  // (..., D), normed over D
  Parameter& weight;
  Parameter& bias;

 private:
  real eps_;
};

// Causal and depthwise; weight (D, 1, W) and, if there is one, bias (D) start as U(+-1 / sqrt(W)),
// and the bias does not decay.
class CausalConv : public Module {
 public:
  CausalConv(Module& parent, std::string name, const Init& init, int64_t channels, int64_t width,
             bool bias = true);
  Var forward(const Var& x, const Var& state = {});  // (B, T, D) -> (B, T, D); state (B, W - 1, D)

 private:
  Parameter& weight_;
  Parameter* const bias_;  // null without
};

// Token embeddings, and the same table as the output head; weight (V, D) starts as N(0, 0.02^2).
class Embedding : public Module {
 public:
  Embedding(Module& parent, std::string name, const Init& init, int64_t vocabulary, int64_t width);
  Var forward(Tape& tape, const IntTensor& tokens);  // (...) -> (..., D)
  Var logits(const Var& x);                          // x weight^T: (..., D) -> (..., V)

 private:
  Parameter& weight_;
};

}  // namespace fprnn
