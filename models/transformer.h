// The block of a causal Transformer (Vaswani et al., arXiv 1706.03762) in the form of GPT-NeoX: the
// rival without a recurrence, whose state is all of the past.
//   [q ; k ; v] = W_qkv LN(x) + b, for each head
//   a_t = sum over s <= t of softmax_s(q_t . k_s / sqrt(d_h) + position) v_s
//   x' = x + W_o a + b
//   out = x' + MLP(LN(x')), or x' + MLP(LN(x)) with parallel_residual
//   MLP(y) = W_2 GELU(W_1 y + b) + b
// Norms and residual are its own. Parameters are named as in GPT-NeoX.
#pragma once

#include <fprnn/models/causal_attention.h>
#include <fprnn/models/modules.h>

namespace fprnn {

struct TransformerOptions {
  CausalAttentionOptions attention = {};
  int64_t intermediate = 0;  // width of the MLP; 0: 4 d_model
  bool parallel_residual = false;
  real eps = kNormEps;
};

class Transformer : public Layer {
 public:
  // ValueError: what check_sizes and CausalAttention refuse.
  Transformer(Module& parent, std::string name, const Init& init,
              const TransformerOptions& options);
  using Layer::forward;  // UsageError: the state of another layer. ValueError: max_length
  bool has_residual() const override { return true; }
  bool capturable(const Conditions& = {}) const override { return true; }
  // The same with gradients through the cache.
  Var forward(const Var& x, AttentionCache& cache);

 protected:
  Var evaluate(const Var& x, LayerState* state, const Conditions& on) override;

 private:
  TransformerOptions options_;  // resolved
  CausalAttention attention_;
  LayerNorm input_layernorm_;
  Linear query_key_value_, dense_;
  LayerNorm post_attention_layernorm_;
  Linear dense_h_to_4h_, dense_4h_to_h_;
};

struct ModelKind;
ModelKind transformer_kind();  // models/registry.h

}  // namespace fprnn
