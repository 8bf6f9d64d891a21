// The word problem of a finite group: read x_1 .. x_k, say after each the product so far.
//   tokens   BOS x_1 x_2 ... x_k   x_i uniform over the elements; BOS is the token after the last
//   targets  BOS a_1 a_2 ... a_k   a_t = a_{t-1} x_t, a_0 the identity
// BOS is in the loss; metrics do not count it.
#pragma once

#include <fprnn/tasks/group.h>
#include <fprnn/tasks/task.h>

namespace fprnn {

class WordProblem : public Task {
 public:
  explicit WordProblem(Group group) : group_(std::move(group)) {}
  int64_t vocabulary() const override { return group_.order + 1; }
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;

 private:
  Group group_;
};

}  // namespace fprnn
