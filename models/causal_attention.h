// What layers with attention share: heads, positions, and the cache of keys and values that is
// their state. It has no parameters.
#pragma once

#include <fprnn/core/settings.h>
#include <fprnn/models/layer.h>
#include <fprnn/ops/attention.h>

namespace fprnn {

// What tells a query how far back a key lies. rope: q and k are turned by their positions
// (ops/attention.h); alibi: -slope_h (t - s) is added (arXiv 2108.12409); hard_alibi: the first
// heads see only the last 1, 2, .. tokens, the others have none.
enum class Positions { none, rope, alibi, hard_alibi };
Positions positions_named(std::string_view name);  // ValueError: none of the four

struct CausalAttentionOptions {
  int64_t d_model = 64;  // D
  int64_t heads = 4;     // H, of d_h = D / H channels
  Positions positions = Positions::rope;
  double rotary_pct = 1;         // which part of a head's channels rope turns
  double rotary_base = 10000;    // of rope's angles
  int64_t hard_alibi_heads = 0;  // that see the last tokens alone; 0: half of them
  int64_t max_length = 65536;    // tokens of a sequence, which the cache holds
};

// The slopes of ALiBi, (heads): 2^(-8 h / H), h = 1 .. H, where H is a power of two; else those of
// the next one, first the 2nd, 4th, .., then the 1st, 3rd, ...
Tensor alibi_slopes(const Context& context, int64_t heads);

// The keys, turned already, and values of all past tokens, (B, S, H, d_h) each; undefined at the
// start of a sequence.
struct AttentionCache {
  Var k, v;  // (B, S, H, d_h)
};

class CausalAttention {
 public:
  // Errors are in the name of `model`, which must last. ValueError: what check_sizes refuses, heads
  // that do not divide, an odd number of channels to turn.
  CausalAttention(std::string_view model, const Context& context,
                  const CausalAttentionOptions& options);
  // a of q, k, v (B, T, D), (B, T, D); the keys and values go behind those of the cache.
  // ValueError: more tokens than max_length.
  Var attend(const Var& q, const Var& k, const Var& v, AttentionCache& cache) const;
  // A layer's state, for B sequences. UsageError: that of another layer or batch.
  AttentionCache cache_of(const LayerState& state, int64_t B) const;
  const CausalAttentionOptions& options() const { return options_; }  // resolved

 private:
  std::string_view model_;
  CausalAttentionOptions options_;
  int64_t width_, turned_;  // d_h, and how many of these channels rope turns
  Tensor slopes_;           // (H), undefined without alibi
  IntTensor windows_;       // (H), undefined without hard_alibi
};

// The settings of it but the width, and the options of their values.
struct CausalAttentionSettings {
  CausalAttentionOptions options = {};
  std::string positions = "rope";
  // Declares them; they hold its address.
  void add_to(Settings& settings);
  CausalAttentionOptions at(int64_t d_model) const;  // ValueError: a name
};

}  // namespace fprnn
