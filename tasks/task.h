// What a task gives the training loop: batches of tokens with the targets to predict.
#pragma once

#include <fprnn/core/rng.h>

namespace fprnn {

struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss
};

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;
  // B sequences of the given length, a pure function of rng.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
};

}  // namespace fprnn
