#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/alphabet.h>
#include <fprnn/tasks/draws.h>

#include <algorithm>

namespace fprnn {

namespace {

constexpr uint64_t kOrderOfOthers = 1;  // the seed of generators:N
constexpr int64_t kMostSpacing = 16;

using Permutation = std::vector<int>;

int number_of(const Group& group, const Permutation& permutation) {
  const auto found = std::ranges::find(group.permutations, permutation);
  return static_cast<int>(found - group.permutations.begin());
}

std::vector<int> generators(const Group& group) {
  require<ValueError>(group.name == "A5" || group.name == "S5", "alphabet",
                      "generators are those of A5 and S5: group", group.name);
  const Permutation cycle = {1, 2, 3, 4, 0};
  const Permutation swaps = group.name == "A5" ? Permutation{1, 0, 3, 2, 4}  // (0 1)(2 3)
                                               : Permutation{1, 0, 2, 3, 4};
  return {number_of(group, cycle), number_of(group, swaps)};
}

std::vector<int> generators_and_others(const Group& group, int64_t size) {
  std::vector<int> elements = generators(group), others;
  require<ValueError>(size >= 2 && size < group.order, "alphabet",
                      "generators:N must be 2 to all elements but the identity: N and these", size,
                      group.order - 1);
  for (int a = 0; a < group.order; ++a)
    if (a != group.identity && std::ranges::find(elements, a) == elements.end())
      others.push_back(a);
  Draws draws(Rng{.seed = kOrderOfOthers}, 0);
  draw_to_front(others, static_cast<int64_t>(others.size()), draws);
  elements.insert(elements.end(), others.begin(), others.begin() + (size - 2));
  return elements;
}

std::vector<int> moving_at_most(int most, const Group& group) {
  std::vector<int> elements;
  for (size_t a = 0; a < group.permutations.size(); ++a) {
    const Permutation& p = group.permutations[a];
    int moved = 0;
    for (size_t i = 0; i < p.size(); ++i) moved += p[i] != static_cast<int>(i);
    if (moved <= most) elements.push_back(static_cast<int>(a));
  }
  require<ValueError>(elements.size() > 1, "alphabet",
                      "the group must have permutations that move so few things: group and things",
                      group.name, most);
  return elements;
}

}  // namespace

Alphabet alphabet_named(std::string_view name, const Group& group) {
  const size_t colon = std::min(name.find(':'), name.size());
  const std::string_view kind = name.substr(0, colon);
  const bool numbered = colon < name.size();
  const int64_t number =
      numbered ? number_in<int64_t>(name.substr(colon + 1)).value_or(0) : int64_t{1};
  Alphabet alphabet;
  if (name == "all") {
    alphabet.elements = group.elements();
  } else if (name == "swaps" || name == "move3") {
    alphabet.elements = moving_at_most(name == "swaps" ? 2 : 3, group);
  } else if (kind == "generators") {
    alphabet.elements = numbered ? generators_and_others(group, number) : generators(group);
  } else {
    require<ValueError>(kind == "spaced" && number >= 2 && number <= kMostSpacing, "alphabet",
                        "alphabets are all, generators, generators:N, swaps, move3 and spaced:M "
                        "with M of 2 to 16",
                        name);
    alphabet = {group.elements(), number};
  }
  std::ranges::sort(alphabet.elements);
  return alphabet;
}

}  // namespace fprnn
