// Copying strings and what follows in them (Jelassi et al., ICML 2024). Ids: the letters 0..V-1,
// $ = V, | = V + 1, . = V + 2, and * = V + 3, which the authors pad with and these rows lack.
//   copy    $ s | s .       s: letters, each uniform over the V
//   prefix  $ g | s | a .   g: n letters that occur once in s; a: those behind them, so many or all
//   suffix  $ s | g a .
//   tokens  sample: examples one after another, as many as fit the length, and the beginning of one
//           more; |s| uniform. examination: one example with |s| = length a row
//   targets the next token of the row; a row is followed by `.`
//   mask    where the target is a letter of the answer or its `.`, in whole examples
//   counted where it is a letter of the answer
// Padding is `.` up to the answer's letters and 8 more, so that every row is as long and a model
// that reads its own words may go on for a while.
#pragma once

#include <fprnn/tasks/task.h>

namespace fprnn {

// Which of the three forms.
enum class CopyingVariant { copy, prefix, suffix };
CopyingVariant copying_variant_named(std::string_view name);  // ValueError: there is none

struct CopyingOptions {
  CopyingVariant variant = CopyingVariant::copy;
  int64_t letters = 26;
  int64_t shortest = 5, longest = 50;  // strings of training
  int64_t ngram = 3;                   // of prefix, suffix and duplicate
  int64_t answer = 0;                  // letters after the n-gram; 0: all of them
  // Of copy: an examination's strings hold an n-gram twice, as one that occurs once is replaced by
  // another one, apart from it. Training is as without.
  bool duplicate = false;
};

class StringCopying : public Task {
 public:
  // ValueError: an option out of range, or strings too short for the n-gram and its answer.
  explicit StringCopying(const CopyingOptions& options);
  int64_t vocabulary() const override { return options_.letters + 4; }
  std::string name_of(int32_t token) const override;  // a letter or sign
  // ValueError: the longest example does not fit the length; of n-grams also: in a thousand strings
  // none occurs once.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // ValueError: the length is too short for the n-gram and its answer, 3 n - 1 for duplicates.
  Batch examination(const Context& context, const Rng& rng, int64_t B,
                    int64_t length) const override;
  void check_training(int64_t length) const override;
  void check_examination(int64_t length) const override;
  std::optional<int32_t> end_of_answer() const override;
  // characters and strings: letters, and strings with every letter, that are right where the model
  // reads right ones; free_characters and free_strings: where it reads its own; free_exact: those
  // with the `.` in its place too.
  std::vector<Metric> metrics() const override;

 private:
  CopyingOptions options_;
};

}  // namespace fprnn
