// What a task gives training and evaluation: batches of tokens with the targets to predict, and how
// the answers count.
#pragma once

#include <fprnn/core/rng.h>

namespace fprnn {

struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss
};

// Fractions of sequences with every counted position right, of positions, and of last positions.
struct Accuracy {
  double sequence = 0, token = 0, last_token = 0;
};

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;
  // B sequences of the given length, a pure function of rng.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
  virtual Accuracy accuracy(const Tensor& logits, const Batch& batch) const = 0;  // (B, T, V)
};

}  // namespace fprnn
