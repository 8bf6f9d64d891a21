// What follows from one pass over sequences of one length, place by place. Of a causal model the
// first k places are its answers to sequences of length k, where a sequence's beginning is one.
#pragma once

#include <fprnn/tasks/metrics.h>

#include <map>
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
  int64_t all_right(int64_t k) const { return at_[k - 1].exact; }      // no error so far
  // Shares; k is 1 to length().
  double exact(int64_t k) const;   // no error so far
  double right(int64_t k) const;   // right at k
  double tokens(int64_t k) const;  // of all positions so far, those that are right
  // The share of sequences that are right as a whole, by where in the row the last counted position is.
  const std::map<int64_t, Mean>& by_end() const { return ends_; }

 private:
  struct At {
    int64_t counted = 0, exact = 0, right = 0;
  };
  std::vector<At> at_;
  std::map<int64_t, Mean> ends_;
};

// Metrics of the sequences' beginnings of a length, or of the sequences up to it.
struct PrefixResult {
  int64_t length = 0;
  NamedValues metrics = {};  // as metrics of an evaluation

  bool operator==(const PrefixResult&) const = default;
};
struct Protocols {
  std::vector<PrefixResult> prefixes = {};  // by length, ascending
  // Sequences without an error in their first 1, 2, .. answers, down to the first 0.
  std::vector<int64_t> exact = {};
  // Where sequences are of many lengths, those from the band before to this length.
  std::vector<PrefixResult> bands = {};
  NamedValues figures = {};  // of the pass as a whole

  bool operator==(const Protocols&) const = default;
};

// For a problem with so many answers (docs/tasks/state_tracking.md): whole_sequences, tokens and
// last_token of prefixes of 2, 7, .., 47, of 16, 32, 64, .. and of the whole; how many are exact at
// every place; scaled_tokens (tasks/metrics.h); last_token_40_256, the mean over these lengths, where
// there are that many; longest_90 and longest_99, the longest prefix with .90 and .99 of the
// sequences right, or 0.
Protocols state_tracking_protocols(const Curves& curves, int64_t answers);

}  // namespace fprnn
