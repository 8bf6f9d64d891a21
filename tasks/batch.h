// Batches of tokens with the targets to predict, as tasks make them.
#pragma once

#include <fprnn/core/rng.h>

namespace fprnn {

struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss
  Tensor counted =
      {};  // (B, T): not 0 where metrics count the answer; undefined: where mask is not

  // What a step of training reads: all but `counted`.
  Batch on(const Context& context) const {
    return {tokens.on(context), targets.on(context), mask.on(context)};
  }
};

// ValueError: not a batch, or one of 2^31 tokens or more, a first one before each sequence
// included.
void check_batch(std::string_view tag, int64_t sequences, int64_t length);

}  // namespace fprnn
