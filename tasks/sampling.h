// Text that a model writes, token by token.
//
// Of the tokens of a step, those with larger logits first and of equal ones the lower id, the filters
// keep, one after the other:
//   temperature  p = softmax(logits / temperature)
//   top_k        the first k, or all for 0
//   top_p        the first whose sum of p over what top_k has kept reaches top_p
// and one of what is left is drawn by p. temperature 0, top_k 1 and top_p 0 all take the first.
#pragma once

#include <fprnn/models/sequence_model.h>

#include <string>
#include <vector>

namespace fprnn {

struct SamplingOptions {
  int64_t tokens = 256;  // at most
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  std::vector<std::string> stops = {};  // texts that end a sample and are no part of it
};
// The same. ValueError: tokens, temperature, top_k negative or not finite; top_p outside [0, 1]; an
// empty stop.
const SamplingOptions& check(const SamplingOptions& options);

// The token for a number in [0, 1). Error: logits that are not finite.
int32_t pick(std::span<const real> logits, const SamplingOptions& options, double number);

// Goes on from the prompt, before which stands a border (tasks/text.h), up to so many bytes, a stop or a
// border; the bytes after the prompt. A function of the weights, the prompt, the options and rng.
std::string sample_text(SequenceModel& model, const Context& context, std::string_view prompt,
                        const SamplingOptions& options, const Rng& rng);

// Texts separated by |, in which \n, \t, \r, \\, \| and \xHH stand for what they say. ValueError:
// another backslash.
std::vector<std::string> stops_of(std::string_view text);

}  // namespace fprnn
