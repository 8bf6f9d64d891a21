// The word problem of a finite group, which state tracking is made of: read x_1 .. x_k, say after
// each the product so far.
//   tokens   BOS x_1 x_2 ... x_k   x_i uniform over the alphabet; BOS is the token after the last
//   targets  BOS a_1 a_2 ... a_k   a_t = a_{t-1} x_t, a_0 the identity
// With an alphabet that is spaced by m, each x_t is followed by m - 1 blanks, the token after BOS,
// and a_t is the target at the last of them; nothing is asked between.
// BOS is in the loss; metrics do not count it.
#pragma once

#include <fprnn/tasks/alphabet.h>
#include <fprnn/tasks/hold_out.h>
#include <fprnn/tasks/task.h>

namespace fprnn {

struct WordProblemOptions {
  std::string alphabet = "all";   // tasks/alphabet.h
  std::string hold_out = "none";  // or as in tasks/hold_out.h
};

class WordProblem : public Task {
 public:
  // ValueError: the group has no such alphabet, or nothing can be held out so.
  explicit WordProblem(Group group, const WordProblemOptions& options = {});
  int64_t vocabulary() const override { return group_.order + (alphabet_.spacing > 1 ? 2 : 1); }
  std::string name_of(int32_t token) const override {
    return token < group_.order ? Task::name_of(token) : token == group_.order ? "BOS" : "_";
  }
  // Without what is held out.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // With it.
  Batch examination(const Context& context, const Rng& rng, int64_t B,
                    int64_t length) const override;
  // accuracies() and, where something is held out: held_out, the share of these places that are
  // right; not_held_out, that of the others, weighted to lie as late. They read this task.
  std::vector<Metric> metrics() const override;
  Protocols protocols(const Curves& curves) const override;

 private:
  Batch batch(const Context& context, const Rng& rng, int64_t B, int64_t length,
              const HoldOut* hold_out) const;
  Mean accuracy(const Answered& answered, bool held_out) const;

  Group group_;
  Alphabet alphabet_;
  std::optional<HoldOut> hold_out_;
};

}  // namespace fprnn
