// A finite group, its elements numbered from 0.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fprnn {

struct Group {
  std::string name;        // as group_named takes it
  int order = 1;           // how many elements
  int identity = 0;        // its number
  std::vector<int> table;  // (order, order): table[a * order + b] is the number of a b
  // Of S<n> and A<n> (order, n): element a moves i to permutations[a][i]. Empty for other groups.
  std::vector<std::vector<int>> permutations = {};

  // The number of a b.
  int product(int a, int b) const { return table[a * order + b]; }
  std::vector<int> elements() const;  // all, ascending
};

// Z<n> (addition mod n, n <= 256), S<n> and A<n> (permutations and even permutations of n <= 5
// things, in lexicographic order; (p q)(i) = p(q(i))), and direct products such as A4xZ5, of at
// most 1024 elements. ValueError: any other name.
Group group_named(std::string_view name);

}  // namespace fprnn
