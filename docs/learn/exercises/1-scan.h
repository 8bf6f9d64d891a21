// Exercises of chapter 1. Replace each throw by your solution; `exercises -tc='1.*'` tests them.
#pragma once

#include <stdexcept>
#include <vector>

namespace chapter1 {

using Numbers = std::vector<double>;

// h -> a h + b
struct Step {
  double a = 1, b = 0;
};

// 1.1 The step that does n times what `step` does, n >= 0. Use about 2 log2(n) compositions, not n:
// the test asks for n up to 10^15.
inline Step repeated(const Step& step, long n) {
  throw std::logic_error("exercise 1.1 is not solved");
}

// 1.2 The scan from the end: h_t = a_t h_{t+1} + b_t with h_T = 0.
inline Numbers scan_from_end(const Numbers& a, const Numbers& b) {
  throw std::logic_error("exercise 1.2 is not solved");
}

// 1.3 Several sequences lie one after the other in a and b; each begins with the state 0 at a place
// where starts[t] is true. Return factors with which one plain scan of all, h_t = factors_t h_{t-1} + b_t,
// gives every sequence what it would get alone.
inline Numbers factors_of_packed(const Numbers& a, const std::vector<bool>& starts) {
  throw std::logic_error("exercise 1.3 is not solved");
}

// 1.4 The gradients of L with respect to a_t and b_t, given h and dh_t = dL / dh_t, of the scan that
// begins with a given state: h_0 = a_0 start + b_0. dstart is the gradient of that state.
struct Gradients {
  Numbers da, db;
  double dstart = 0;
};
inline Gradients scan_gradients(const Numbers& a, const Numbers& h, double start,
                                const Numbers& dh) {
  throw std::logic_error("exercise 1.4 is not solved");
}

}  // namespace chapter1
