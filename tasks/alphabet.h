// Which elements of its group a word problem reads, and how far apart. What it says stays any element.
#pragma once

#include <fprnn/tasks/group.h>

#include <cstdint>

namespace fprnn {

struct Alphabet {
  std::vector<int> elements;  // ascending
  int64_t spacing = 1;        // tokens for an element: the element, then blanks
};

//   all           every element
//   generators    of A5 (0 1 2 3 4) and (0 1)(2 3), of S5 (0 1 2 3 4) and (0 1)
//   generators:N  these and N - 2 others, none the identity: the first of one random order for all
//                 runs, so that a larger N adds to a smaller
//   swaps, move3  of S<n> and A<n>: all elements that move at most two, or three, things
//   spaced:M      every element, each with M - 1 blanks after it, M of 2 to 16
// ValueError: another name, or the group has no such elements but the identity.
Alphabet alphabet_named(std::string_view name, const Group& group);

}  // namespace fprnn
