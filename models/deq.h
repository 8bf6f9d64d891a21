// A Transformer block with tied weights as a fixed point (after Bai et al., arXiv 1909.01377):
//   [q ; k ; v] = W_qkv z + W_inject x
//   z1 = LN(z + W_o a), a causal softmax attention of q, k, v
//   f(z) = LN(z1 + W_2 ReLU(W_1 z1 + b_1) + b_2)
//   out = z*, with z* = f(z*), from z = 0
// All maps are weight-normalised. The norms bound z, so a solution exists; that f contracts is not
// guaranteed, but likely while the magnitudes of the maps of z are small beside W_inject's: they
// start at 1/4 and 1/2, that at 2, and count as 1 where they are above. What did not converge is in
// the report.
//
// f is causal. Sequential and the decoder solve one token after the other, with the keys and values
// of converged tokens in the cache; parallel and patience iterate all together. Where there are
// several solutions these may differ.
#pragma once

#include <fprnn/models/causal_attention.h>
#include <fprnn/models/implicit_layer.h>
#include <fprnn/models/modules.h>

namespace fprnn {

struct DeqOptions {
  CausalAttentionOptions attention = {.positions = Positions::none};
  int64_t intermediate = 0;   // width of W_1; 0: 4 d_model
  double most_magnitude = 1;  // of the rows of W_qkv, W_o, W_1 and W_2; 0: any
  real eps = kNormEps;
  SolverOptions solver = {};
};

class Deq : public ImplicitLayer {
 public:
  // ValueError: what check_sizes, CausalAttention and SolverOptions refuse.
  Deq(Module& parent, std::string name, const Init& init, const DeqOptions& options);
  using Layer::forward;  // UsageError: the state of another layer. ValueError: max_length

 protected:
  Var evaluate(const Var& x, LayerState* state, const Conditions& on) override;

 private:
  // All that f depends on besides z and the cache: W_inject x (B, T, 3 D), weights and biases.
  struct Inputs {
    Var injected, qkv, o, ff1, ff1_bias, ff2, ff2_bias, norm1, norm1_bias, norm2, norm2_bias;
    Vars flat() const;
    static Inputs of(const Vars& flat);
  };
  Inputs inputs_of(const Var& x);
  Var weight_of(const WeightNormLinear& map, const Var& like) const;
  // f(z); z's keys and values go behind those of the cache.
  Var apply(const Var& z, const Inputs& in, AttentionCache& cache) const;
  Solution solve(const Map& f, Tensor start, const Inputs& in, const AttentionCache& cache,
                 const SolverOptions& options);
  Solution by_steps(const Tensor& z, const Inputs& in, AttentionCache cache,
                    const SolverOptions& options) const;

  DeqOptions options_;  // resolved
  CausalAttention attention_;
  WeightNormLinear qkv_, inject_, o_, ff1_, ff2_;
  LayerNorm norm1_, norm2_;
};

struct ModelKind;
ModelKind deq_kind();  // models/registry.h

}  // namespace fprnn
