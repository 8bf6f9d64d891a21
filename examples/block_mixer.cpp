#include "block_mixer.h"

#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>

namespace extending {

using namespace fprnn;

BlockMixer::BlockMixer(Module& parent, std::string name, const Init& init,
                       const MixerOptions& options)
    : Mixer(parent, std::move(name), init, options,
            {{"pair", options.channels / 2}, {"gate", options.channels / 2, true}}) {  // c and a
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
  const Var taken = concat({mul(q[0], add(i, mul(q[1], j))), mul(q[0], add(j, mul(q[1], i)))}, -1);
  return sub(v, taken);
}

}  // namespace extending
