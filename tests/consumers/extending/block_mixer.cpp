#include "block_mixer.h"

#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

namespace extending {

using namespace fprnn;

BlockMixer::BlockMixer(Module& parent, std::string name, const Init& init,
                       const MixerOptions& options)
    : Mixer(parent, std::move(name), options),
      pair_(*this, "pair", init, options.parameters, options.channels / 2),
      gate_(*this, "gate", init, options.parameters, options.channels / 2, {.bias = true}) {
  require<ValueError>(options.channels % 2 == 0, "block_mixer", "channels must be even",
                      options.channels);
  require<ValueError>(options.scale >= 0 && options.scale <= 1, "block_mixer",
                      "scale must be in [0, 1]", options.scale);
}

MixerFactors BlockMixer::factors(const Var& projected) const {
  const int64_t D = options_.channels;
  return {affine(sigmoid(slice(projected, -1, D / 2, D)), options_.scale / 2, 0),
          tanh(slice(projected, -1, 0, D / 2))};
}

Var BlockMixer::apply(const MixerFactors& q, const Var& v) const {
  const int64_t D = options_.channels;
  const Var i = slice(v, -1, 0, D / 2), j = slice(v, -1, D / 2, D);
  const Var taken =
      concat({mul(q.first, add(i, mul(q.second, j))), mul(q.first, add(j, mul(q.second, i)))}, -1);
  return sub(v, taken);
}

}  // namespace extending
