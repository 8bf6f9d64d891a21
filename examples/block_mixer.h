// A mixer: I - Q is block-diagonal, a symmetric 2 x 2 block for each pair of channels i, i + D / 2,
//   (I - Q) (v_i, v_j) = s a_i / 2 (v_i + c_i v_j, c_i v_i + v_j),   a = sigmoid, c = tanh of numbers
// Its eigenvalues, s a (1 +- c) / 2, are in (0, s), s <= 1: it contracts.
#pragma once

#include <fprnn/models/mixer.h>

namespace extending {

class BlockMixer : public fprnn::Mixer {
 public:
  // ValueError: an odd number of channels, or a scale outside [0, 1].
  BlockMixer(fprnn::Module& parent, std::string name, const fprnn::Init& init,
             const fprnn::MixerOptions& options);
  fprnn::MixerFactors factors(const fprnn::Var& projected) const override;
  fprnn::Var apply(const fprnn::MixerFactors& q, const fprnn::Var& v) const override;
};

}  // namespace extending
