// Fixed-point layers as wide as a test asks, up to the widths at which a GPU's kernels change.
#pragma once

#include <algorithm>

#include "fp_cases.h"

namespace fprnn::tests {

struct Width {
  int64_t width, states;
  MixerKind mixer;
  int64_t rank;
};
inline Case wide_mamba(const Width& of, bool glu_in_loop = false) {
  return mamba_case(fmt::format("{} {} {}{}", of.width, name_of(of.mixer), of.rank,
                                glu_in_loop ? ", gate in the loop" : ""),
                    {.d_model = of.width,
                     .d_state = of.states,
                     .mixer = of.mixer,
                     .rank = of.rank,
                     .scale = 1,
                     .glu_in_loop = glu_in_loop});
}
inline Case wide_mamba2(const Width& of) {
  FpMamba2Options options;
  options.d_model = of.width, options.d_state = of.states, options.scale = 1;
  options.mixer = of.mixer, options.rank = of.rank;
  options.headdim = std::min<int64_t>(of.width / 2, 64);
  return block_case<FpMamba2>(fmt::format("mamba2 {} {} {}", of.width, name_of(of.mixer), of.rank),
                              options);
}
inline Case wide_rnn(const Width& of) {
  return rnn_case(fmt::format("{} {} {}", of.width, name_of(of.mixer), of.rank),
                  {.d_model = of.width, .mixer = of.mixer, .rank = of.rank, .scale = 1});
}
// Of two heads, whose keys have as many numbers as the other cells have states.
inline Case wide_delta(const Width& of) {
  FpDeltaNetOptions options;
  options.d_model = of.width, options.heads = 2, options.head_dim = of.states, options.scale = 1;
  options.mixer = of.mixer, options.rank = of.rank;
  return block_case<FpDeltaNet>(fmt::format("delta {} {} {}", of.width, name_of(of.mixer), of.rank),
                                options);
}

}  // namespace fprnn::tests
