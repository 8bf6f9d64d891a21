// Solutions of the exercises of chapter 2, docs/learn/exercises/2-diagonal.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

namespace chapter2 {

using Numbers = std::vector<double>;

// 2.1 Every letter changes the sign, so the state is 1 again where both are odd: one channel knows the
// parity of the length and cannot tell "both even" from "both odd". Two channels can.
inline Numbers factors_of_letters(const std::vector<char>& word) {
  return Numbers(word.size(), -1);
}

// 2.2 u is along x - y: the mirror stands half-way between the two.
inline Numbers mirror_between(const Numbers& x, const Numbers& y) {
  Numbers u(x.size());
  double square = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    u[i] = x[i] - y[i];
    square += u[i] * u[i];
  }
  for (double& number : u) number /= std::sqrt(square);
  return u;
}

// 2.3 Fill the places in order: what belongs at place i lies somewhere from i on.
inline std::vector<std::pair<int, int>> swaps_of(const std::vector<int>& p) {
  std::vector<int> places;
  for (size_t i = 0; i < p.size(); ++i) places.push_back(static_cast<int>(i));
  std::vector<std::pair<int, int>> swaps;
  for (size_t i = 0; i < p.size(); ++i)
    for (size_t j = i + 1; j < p.size(); ++j)
      if (places[j] == p[i]) {
        std::swap(places[i], places[j]);
        swaps.push_back({static_cast<int>(i), static_cast<int>(j)});
      }
  return swaps;
}

// 2.4
inline int order_of(const std::vector<int>& table, int n, int element) {
  int order = 1;
  for (int power = element; power != 0; power = table[power * n + element]) ++order;
  return order;
}

// 2.5 A turn by the n-th part of a circle.
inline Numbers counter(int n) {
  const double angle = 2 * std::numbers::pi / n;
  return {std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle)};
}

}  // namespace chapter2
