// What a task gives training and evaluation: batches of tokens with the targets to predict, and how
// the answers count.
#pragma once

#include <fprnn/core/rng.h>

namespace fprnn {

struct Batch {
  IntTensor tokens;   // (B, T)
  IntTensor targets;  // (B, T)
  Tensor mask;        // (B, T): weight of each position in the loss

  Batch on(const Context& context) const {
    return {tokens.on(context), targets.on(context), mask.on(context)};
  }
};

// Fractions of sequences with every counted position right, of positions, and of last positions.
struct Accuracy {
  double sequence = 0, token = 0, last_token = 0;
};

// ValueError: not a batch, or one of 2^31 tokens or more, a first one before each sequence included.
void check_batch(std::string_view tag, int64_t sequences, int64_t length);

class Task {
 public:
  virtual ~Task() = default;
  virtual int64_t vocabulary() const = 0;
  // B sequences of the given length, a pure function of rng.
  virtual Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const = 0;
  // answers (B, T): the token of each position, -1 for none.
  virtual Accuracy accuracy(const IntTensor& answers, const Batch& batch) const = 0;
};

}  // namespace fprnn
