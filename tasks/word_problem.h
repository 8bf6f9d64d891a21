// The word problem of a finite group, which state tracking is made of: read x_1 .. x_k, say after
// each the product so far.
//   tokens   BOS x_1 x_2 ... x_k   x_i uniform over the elements; BOS is the token after the last
//   targets  BOS a_1 a_2 ... a_k   a_t = a_{t-1} x_t, a_0 the identity
// BOS is in the loss; metrics do not count it.
#pragma once

#include <fprnn/tasks/task.h>

namespace fprnn {

struct Group {
  std::string name;
  int order = 1;
  int identity = 0;
  std::vector<int> table;  // (order, order): table[a * order + b] is the number of a b

  int product(int a, int b) const { return table[a * order + b]; }
};

// Z<n> (addition mod n, n <= 256), S<n> and A<n> (permutations and even permutations of n <= 5
// things, in lexicographic order; (p q)(i) = p(q(i))), and direct products such as A4xZ5, of at
// most 1024 elements. ValueError: any other name.
Group group_named(std::string_view name);

class WordProblem : public Task {
 public:
  explicit WordProblem(Group group) : group_(std::move(group)) {}
  int64_t vocabulary() const override { return group_.order + 1; }
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;

 private:
  Group group_;
};

}  // namespace fprnn
