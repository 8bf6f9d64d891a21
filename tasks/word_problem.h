// The word problem of a finite group, which state tracking is made of: read x_1 .. x_k, say after
// each the product so far.
//   tokens   BOS x_1 x_2 ... x_k   x_i uniform over the alphabet; BOS is the token after the last
//   targets  BOS a_1 a_2 ... a_k   a_t = a_{t-1} x_t, a_0 the identity
// With an alphabet that is spaced by m, each x_t is followed by m - 1 blanks, the token after BOS,
// and a_t is the target at the last of them; nothing is asked between.
// BOS is in the loss, unless that is of the last label alone; metrics do not count it. Rows that are
// shorter than others end in BOS, of which nothing is asked.
#pragma once

#include <fprnn/tasks/alphabet.h>
#include <fprnn/tasks/hold_out.h>
#include <fprnn/tasks/task.h>

namespace fprnn {

enum class Supervise { all, last };  // labels of a row of training

struct WordProblemOptions {
  std::string alphabet = "all";   // tasks/alphabet.h
  std::string hold_out = "none";  // or as in tasks/hold_out.h
  // 0: rows of training have its length; else uniform lengths from this one to it.
  int64_t shortest = 0;
  Supervise supervise = Supervise::all;
};

class WordProblem : public Task {
 public:
  // ValueError: the group has no such alphabet, nothing can be held out so, or shortest is negative.
  explicit WordProblem(Group group, const WordProblemOptions& options = {});
  int64_t vocabulary() const override { return group_.order + (alphabet_.spacing > 1 ? 2 : 1); }
  std::string name_of(int32_t token) const override {
    return token < group_.order ? Task::name_of(token) : token == group_.order ? "BOS" : "_";
  }
  // Without what is held out. ValueError: the length is below the shortest.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // With it, all rows of the length, and all labels asked.
  Batch examination(const Context& context, const Rng& rng, int64_t B,
                    int64_t length) const override;
  void check_training(int64_t length) const override;
  // accuracies(), last_token first where it alone is trained; where something is held out: held_out,
  // the share of these places that are right, and not_held_out, that of the others, weighted to lie
  // as late. They read this task.
  std::vector<Metric> metrics() const override;
  Protocols protocols(const Curves& curves) const override;

 private:
  struct Form {  // of a batch
    const HoldOut* hold_out = nullptr;
    int64_t shortest = 0;
    Supervise supervise = Supervise::all;
  };
  Batch batch(const Context& context, const Rng& rng, int64_t B, int64_t length,
              const Form& form) const;
  Mean accuracy(const Answered& answered, bool held_out) const;

  Group group_;
  Alphabet alphabet_;
  std::optional<HoldOut> hold_out_;
  int64_t shortest_;
  Supervise supervise_;
};

}  // namespace fprnn
