// Random text whose entropy is known: each letter is drawn given the two before it.
//   p(c | a, b) = w_abc / sum over c of w_abc,  w_abc the cube of a standard exponential number
//   entropy rate H = - sum over a, b, c of pi(a, b) p(c | a, b) log2 p(c | a, b),
// pi being the stationary distribution of two letters in a row. No predictor comes below H on average.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fprnn {

class MarkovText {
 public:
  static constexpr int64_t kLetters = 16;  // from 'a' on

  explicit MarkovText(uint64_t seed);

  double probability(char a, char b, char c) const;  // of c after a, b
  double entropy_rate() const;                       // bits a letter
  std::string bytes(int64_t count) const;            // the first letters of the text

 private:
  uint64_t seed_;
  std::vector<double> p_;  // (letters, letters, letters)
};

}  // namespace fprnn
