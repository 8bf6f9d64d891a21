// Exercises of chapter 2. Replace each throw by your solution; `exercises -tc='2.*'` tests them.
#pragma once

#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

namespace chapter2 {

using Numbers = std::vector<double>;

// 2.1 One channel for two letters: for each letter of the word, a or b, a factor 1 or -1. From the state 1 they
// must lead to 1 where the numbers of a and of b are both even, and to -1 where just one of them is odd.
// What does the channel say where both are odd, and what follows for "both are even"?
inline Numbers factors_of_letters(const std::vector<char>& word) {
  throw std::logic_error("exercise 2.1 is not solved");
}

// 2.2 The unit vector u whose mirror I - 2 u u^T maps x to y. Both have the same length and differ.
inline Numbers mirror_between(const Numbers& x, const Numbers& y) {
  throw std::logic_error("exercise 2.2 is not solved");
}

// 2.3 A permutation as swaps: pairs of places such that, swapping in this order the contents of the places
// 0, 1, .., n - 1, which hold 0, 1, .., n - 1, leaves p[i] at place i. At most n - 1 pairs.
inline std::vector<std::pair<int, int>> swaps_of(const std::vector<int>& p) {
  throw std::logic_error("exercise 2.3 is not solved");
}

// 2.4 The order of an element of a group: how often it must be multiplied by itself to give the identity,
// which is 0. table[a * n + b] is the product of a and b.
inline int order_of(const std::vector<int>& table, int n, int element) {
  throw std::logic_error("exercise 2.4 is not solved");
}

// 2.5 A counter modulo n: the matrix {m00, m01, m10, m11} that takes the point (1, 0) around a circle and back to
// itself after n steps, not sooner. Two channels whose matrix is no diagonal one; with complex numbers it would be.
inline Numbers counter(int n) { throw std::logic_error("exercise 2.5 is not solved"); }

}  // namespace chapter2
