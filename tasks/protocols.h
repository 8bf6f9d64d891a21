// What follows from one pass over sequences of one length, place by place. Of a causal model the
// first k places are its answers to sequences of length k, where a sequence's beginning is one.
#pragma once

#include <fprnn/tasks/metrics.h>

#include <string>
#include <utility>
#include <vector>

namespace fprnn {

// Names with numbers, in an order that means something.
using NamedValues = std::vector<std::pair<std::string, double>>;

// At the k-th counted position, k from 1: counts of sequences.
class Curves {
 public:
  // Of every sequence, as in scores(). ShapeError: as there.
  void add(const IntTensor& answers, const Batch& batch);
  int64_t length() const { return static_cast<int64_t>(at_.size()); }  // the largest k
  // Shares; k is 1 to length().
  double exact(int64_t k) const;   // no error so far
  double right(int64_t k) const;   // right at k
  double tokens(int64_t k) const;  // of all positions so far, those that are right

 private:
  struct At {
    int64_t counted = 0, exact = 0, right = 0;
  };
  std::vector<At> at_;
};

// The metrics of the sequences' beginnings of a length.
struct PrefixResult {
  int64_t length = 0;
  NamedValues metrics = {};

  bool operator==(const PrefixResult&) const = default;
};
struct Protocols {
  std::vector<PrefixResult> prefixes = {};
  NamedValues figures = {};  // of the pass as a whole

  bool operator==(const Protocols&) const = default;
};

// For a problem with so many answers (docs/tasks/state_tracking.md): whole_sequences, tokens and
// last_token of prefixes of 2, 7, .., 47, of 16, 32, 64, .. and of the whole; scaled_tokens, (tokens
// - 1/m) / (1 - 1/m); last_token_40_256, the mean over these lengths, where there are that many;
// longest_90 and longest_99, the longest prefix with .90 and .99 of the sequences right, or 0.
Protocols state_tracking_protocols(const Curves& curves, int64_t answers);

}  // namespace fprnn
