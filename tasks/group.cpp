#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/group.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

namespace fprnn {

namespace {

constexpr std::string_view kRule =
    "groups are Z1 to Z256, S1 to S5, A1 to A5 and products such as A4xZ5 of at most 1024 elements";

constexpr int kMostCyclic = 256, kMostPermuted = 5;

[[noreturn]] void refuse(std::string_view part, std::string_view whole) {
  std::vector<std::string> names;
  for (int n = 1; n <= kMostPermuted; ++n)
    for (const char kind : {'S', 'A'}) names.push_back(kind + std::to_string(n));
  for (int n = 1; n <= kMostCyclic; ++n) names.push_back('Z' + std::to_string(n));
  throw ValueError("group", std::string(kRule) + did_you_mean(nearest(part, names)),
                   std::array{describe(whole)});
}

Group cyclic(int n) {
  Group group{.name = {}, .order = n, .identity = 0, .table = std::vector<int>(n * n)};
  for (int a = 0; a < n; ++a)
    for (int b = 0; b < n; ++b) group.table[a * n + b] = (a + b) % n;
  return group;
}

bool even(const std::vector<int>& permutation) {
  int inversions = 0;
  for (size_t i = 0; i < permutation.size(); ++i)
    for (size_t j = i + 1; j < permutation.size(); ++j)
      inversions += permutation[i] > permutation[j];
  return inversions % 2 == 0;
}

Group permutations(int n, bool even_only) {
  std::vector<int> permutation(n);
  std::iota(permutation.begin(), permutation.end(), 0);
  std::vector<std::vector<int>> elements;
  std::map<std::vector<int>, int> number;
  do {
    if (even_only && !even(permutation)) continue;
    number[permutation] = static_cast<int>(elements.size());
    elements.push_back(permutation);
  } while (std::ranges::next_permutation(permutation).found);
  const int order = static_cast<int>(elements.size());
  Group group{.name = {}, .order = order, .identity = 0, .table = {}};
  for (const auto& p : elements)
    for (const auto& q : elements) {
      for (int i = 0; i < n; ++i) permutation[i] = p[q[i]];
      group.table.push_back(number.at(permutation));
    }
  group.permutations = std::move(elements);
  return group;
}

// Pairs (a, b), numbered a |right| + b, multiplied side by side.
Group direct_product(const Group& left, const Group& right) {
  const int order = left.order * right.order;
  Group group{.name = {}, .order = order, .identity = 0, .table = std::vector<int>(order * order)};
  for (int x = 0; x < order; ++x)
    for (int y = 0; y < order; ++y)
      group.table[x * order + y] = left.product(x / right.order, y / right.order) * right.order +
                                   right.product(x % right.order, y % right.order);
  return group;
}

Group simple_group(std::string_view part, std::string_view whole) {
  const char kind = part.empty() ? ' ' : part[0];
  const int largest = kind == 'Z' ? kMostCyclic : kind == 'S' || kind == 'A' ? kMostPermuted : 0;
  const bool number = part.size() >= 2 && part[1] != '0';
  const int n = number ? number_in<int>(part.substr(1)).value_or(0) : 0;
  if (n < 1 || n > largest) refuse(part, whole);
  return kind == 'Z' ? cyclic(n) : permutations(n, kind == 'A');
}

}  // namespace

std::vector<int> Group::elements() const {
  std::vector<int> all(order);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

Group group_named(std::string_view name) {
  const std::vector<std::string> parts = split(name, 'x');
  Group group = simple_group(parts.front(), name);
  for (const std::string& part : std::span(parts).subspan(1)) {
    const Group next = simple_group(part, name);
    require<ValueError>(group.order * next.order <= 1024, "group", kRule, name);
    group = direct_product(group, next);
  }
  group.name = name;
  return group;
}

}  // namespace fprnn
