// Stories laid end to end in lanes, which a model reads side by side with its state carried on. The
// next story joins the shortest lane, the first of several such, so that lanes end about together:
//   tokens   <eos> w_1 .. w_n of each story
//   targets  w_1 .. w_n <eos>
// Batch i holds tokens [i T, (i + 1) T) of every lane. <pad> follows the end of a lane.
//
// The authors fill lanes only as far as the next batches need, until each holds 800 tokens. As a batch
// takes as many from every lane, which lane is the shortest does not depend on how many are held.
#pragma once

#include <fprnn/core/rng.h>
#include <fprnn/tasks/babi/stories.h>
#include <fprnn/tasks/task.h>

namespace fprnn::babi {

// 0 .. n - 1 in an order drawn from rng, all orders alike.
std::vector<int64_t> shuffled(int64_t n, const Rng& rng);

// For each lane, which items it gets, in order.
std::vector<std::vector<int64_t>> deal(std::span<const int64_t> lengths, int64_t lanes);

// Which words the loss reads: answers, or all.
enum class Loss { answers, words };

// One pass through stories.
class Lanes {
 public:
  // The stories, read in the given order; they must outlive it. ValueError: no batch.
  Lanes(std::span<const Story> stories, std::span<const int64_t> order, int64_t lanes,
        int64_t length);

  int64_t batches() const { return batches_; }  // of the pass
  // (lanes, length) each. counted: the task where `?` stands before its answer, else 0. mask: 1
  // where the loss reads a target. 0 <= i < batches().
  Batch batch(const Context& context, int64_t i, int32_t question_mark, Loss loss) const;

 private:
  struct Placed {
    int64_t begin;  // its <eos> in the lane
    const Story* story;
  };
  std::vector<std::vector<Placed>> lanes_;
  int64_t length_, batches_ = 0;
};

}  // namespace fprnn::babi
