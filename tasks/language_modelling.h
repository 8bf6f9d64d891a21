// Language modelling: each token of a text is predicted from those before it. Of its N tokens the first
// nine tenths are trained on, the next twentieth is for validation, the last for a test.
//
// A sequence that begins at place p reads a border and the tokens from p on, one position later:
//   tokens   256      x_p      ..  x_{p+T-2}
//   targets  x_p      x_{p+1}  ..  x_{p+T-1}
// Where state is carried, x_{p-1} stands in place of the border, but at the beginning of a lane.
//
// Training reads windows at random places, or B lanes: the part is cut into B equal ones, row b of
// batch m reads T tokens of the b-th, and goes on in batch m + 1; after the last whole T of them all
// lanes begin again.
#pragma once

#include <fprnn/tasks/task.h>
#include <fprnn/tasks/text.h>

namespace fprnn {

class LanguageModelling : public Task {
 public:
  // What a piece of the text is for.
  enum class Part { training, validation, test };
  struct Options {
    bool carries_state = false;        // lanes, in training
    Part held_out = Part::validation;  // what evaluations read
    int64_t most = 0;                  // tokens of it, from its beginning; 0: all
  };
  // ValueError: a negative number.
  LanguageModelling(Text text, const Options& options);

  int64_t vocabulary() const override { return Text::kVocabulary; }
  // Windows. ValueError: no batch, or the part is shorter.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // ValueError: also as check_lanes.
  Batch training_batch(const Context& context, uint64_t seed, int64_t number, int64_t B,
                       int64_t length) const override;
  bool carries_state() const override { return options_.carries_state; }
  std::optional<Unit> unit() const override;  // a byte: a target that is no border
  std::string data() const override;
  // All of the held-out part in windows of the length, the last one perhaps shorter.
  std::optional<Reading> reading(int64_t length) const override;
  // The same of the part for validation.
  std::optional<Reading> validation(int64_t length) const override;
  // All of it as one sequence.
  std::vector<Reading> texts() const override;
  void check_lanes(int64_t B, int64_t length) const override;
  void check_training(int64_t length) const override;
  void check_examination(int64_t length) const override;
  // bits_per_byte, nats / (ln 2 . bytes), borders being no bytes; perplexity, exp(nats / tokens);
  // tokens, the share that is right.
  std::vector<Metric> metrics() const override;

  // Places of a text.
  struct Range {
    int64_t begin, end;  // the first, and the one after the last
    int64_t size() const { return end - begin; }
  };
  Range part(Part which) const;  // its places in the text

 private:
  Range beginning_of(Part which) const;  // as much as is evaluated
  Range held_out() const { return beginning_of(options_.held_out); }
  Reading windows(const Range& range, int64_t length) const;
  // Sequences from `begins` on, up to `end`, with padding behind it; those that do not start go on.
  Batch rows(const Context& context, std::span<const int64_t> begins, int64_t length, int64_t end,
             bool starts) const;

  Text text_;
  Options options_;
};

}  // namespace fprnn
