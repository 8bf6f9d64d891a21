// Questions with one answer: expressions modulo 5, and three small automata. A row of L tokens ends
// with the answer's place, whose input is blank (pad); one position is supervised and counted, the
// last that is not blank; its target is the answer, other targets are pad:
//   brackets   e_1 .. e_{L-3} = pad pad    digits 0..4, + 5, - 6, * 7, ( 8, ) 9, = 10, pad 11
//              e is gen(L - 3): gen(1) n; gen(2) - n; gen(3) ( n ); gen(4) ( - n );
//              gen(k) ( gen(left) op gen(k - 3 - left) ), left of 1 .. k - 4
//   plain      e_1 .. e_{L-2} = pad        pad 0, + 1, - 2, * 3, = 4, digits 5..9; L odd
//              n op n op .. n, where * binds first
//   parity     x_1 .. x_{L-1} pad          pad 0, bits 1 2; 1 + the number of 2s modulo 2
//   even-pairs x_1 .. x_{L-1} pad          the same; 1 if x_1 = x_{L-1}, else 2
//   cycle      x_1 .. x_{L-1} pad          pad 0, 1 stay, 2 one on, 3 one back on 5 places from the
//                                          first; the places are the answers 4..8
// Numbers, signs, bits, splits and moves are uniform. Source: the tasks of arXiv 2207.02098 in the
// forms of the Fixed-Point RNN's code (brackets), arXiv 2411.12537 and 2509.22284 (the others).
#pragma once

#include <fprnn/tasks/task.h>

#include <string>

namespace fprnn {

struct ArithmeticOptions {
  std::string variant = "brackets";  // or plain, parity, even-pairs, cycle
  bool times = true;                 // whether expressions have *; else + and - only
  // 0: an examination at a length has rows of it alone; else uniform lengths from this one to it.
  int64_t test_from = 0;
};

class Arithmetic : public Task {
 public:
  // ValueError: another variant, or a test_from below 0 or of 1 or 2.
  explicit Arithmetic(const ArithmeticOptions& options);
  int64_t vocabulary() const override;
  // Digits, signs, bits, moves, places; "_" is padding.
  std::string name_of(int32_t token) const override;
  // Rows of lengths that are uniform over 3 .. length, the odd ones for plain; brackets take 5
  // instead of 3 and 4. All are padded to the longest that there can be, so that batches of one
  // length have one shape. ValueError: a length below 3.
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override;
  // Of the length alone, plain's being the odd one at or below it; or see test_from.
  Batch examination(const Context& context, const Rng& rng, int64_t B,
                    int64_t length) const override;
  void check_training(int64_t length) const override;
  void check_examination(int64_t length) const override { check_training(length); }
  // accuracy; scaled_accuracy (tasks/metrics.h); and what both are for
  // who always says answer 0 (the first place, an even number, equal ends), the most frequent.
  std::vector<Metric> metrics() const override;
  // Of an examination of many lengths (test_from): sequences, accuracy and scaled_accuracy by length, in
  // at most nine bands as wide as a power of two.
  Protocols protocols(const Curves& curves) const override;

  struct Variant;  // ids and form

 private:
  Batch batch(const Context& context, const Rng& rng, int64_t B, int64_t from, int64_t to) const;

  const Variant& variant_;
  bool times_;
  int64_t test_from_;
};

}  // namespace fprnn
