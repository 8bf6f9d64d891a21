// The random words of one row of a batch, read one after the other from where the row's begin, so that
// a row is a function of rng and its number. Rows whose words begin further apart than they read
// have no word in common.
#pragma once

#include <fprnn/core/rng.h>

#include <cmath>
#include <utility>
#include <vector>

namespace fprnn {

class Draws {
 public:
  Draws(const Rng& rng, uint64_t begin) : rng_(rng), next_(begin) {}

  // Uniform over 0 .. n - 1, n up to 2^32; reads one word.
  int64_t below(int64_t n) { return rng_.below(next_++, n); }
  // Standard exponential, positive and finite.
  double exponential() { return -std::log((rng_.bits(next_++) + 0.5) * 0x1p-32); }

 private:
  Rng rng_;
  uint64_t next_;
};

// Puts k of them, no two the same one, in front: all choices and orders are equally likely.
template <class T>
void draw_to_front(std::vector<T>& all, int64_t k, Draws& draws) {
  const auto n = static_cast<int64_t>(all.size());
  for (int64_t i = 0; i < k; ++i) std::swap(all[i], all[i + draws.below(n - i)]);
}

}  // namespace fprnn
