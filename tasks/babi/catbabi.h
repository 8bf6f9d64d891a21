// catbAbI (Schlag et al., 2021): stories of all of bAbI's tasks in one stream, and a model that says
// the answer at each `?`. Rows are lanes (tasks/babi/lanes.h), so that a story may go on in the next
// batch; each pass through the stories of training has an order of its own.
#pragma once

#include <fprnn/tasks/babi/lanes.h>

#include <optional>

namespace fprnn::babi {

struct CatbabiOptions {
  bool carry = true;             // the state from batch to batch; else each window starts from zero
  Loss loss = Loss::answers;     // of training
  Part examined = Part::test;    // what evaluations read
  int64_t examined_lanes = 128;  // side by side
};

class Catbabi : public Task {
 public:
  // FormatError: no stories of train or of the part examined, or no question in one of them, but in
  // train where every word is trained on. ValueError: no lanes.
  Catbabi(Stories stories, const CatbabiOptions& options);
  Catbabi(const Catbabi&) = delete;  // lanes hold the addresses of stories
  Catbabi& operator=(const Catbabi&) = delete;

  int64_t vocabulary() const override;
  std::string name_of(int32_t token) const override { return stories_.vocabulary()[token]; }
  // The first batch of a pass in an order drawn from rng.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // Passes one after the other; the model's state starts anew with each. The loss of a batch without
  // a question is that of all its words.
  Batch training_batch(const Context& context, uint64_t seed, int64_t number, int64_t B,
                       int64_t length) const override;
  bool carries_state() const override { return options_.carry; }
  std::string data() const override;  // the stories of train, and the vocabulary
  // The part examined, each story once and in the files' order.
  std::optional<Reading> reading(int64_t length) const override;
  // The stories of valid, in 128 lanes as the authors do. FormatError: there is none, or no question
  // where answers are trained on.
  std::optional<Reading> validation(int64_t length) const override;
  // answers: the share of questions answered right; task_<N> of those of a task, where there are
  // several; nats: the loss.
  std::vector<Metric> metrics() const override;

  const Stories& stories() const { return stories_; }  // all of them

 private:
  // Where the passes of a training begin, as far as it has come, and the last of them: a memo, so
  // that stories are not dealt anew at each batch.
  struct Passes {
    uint64_t seed;
    int64_t B, length;
    std::vector<int64_t> begins = {0};  // the first batch of each
    std::unique_ptr<Lanes> last = {};   // the pass before the one that begins last
  };
  void check_part(Part part, Loss loss) const;
  Reading part_in_lanes(Part part, int64_t lanes, int64_t length) const;
  Batch batch_of(const Lanes& lanes, const Context& context, int64_t i, Loss loss) const;

  Stories stories_;
  CatbabiOptions options_;
  mutable std::optional<Passes> passes_;
};

}  // namespace fprnn::babi
