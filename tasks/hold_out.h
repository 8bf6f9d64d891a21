// Products that training never shows, by which evaluation tells a law from a table learnt by heart.
#pragma once

#include <fprnn/tasks/group.h>

#include <cstdint>

namespace fprnn {

// A place of a word problem, which is read after `last` (-1: it is the first) at the product `state`.
struct WordPlace {
  int last = -1;
  int state = 0;
};

class HoldOut {
 public:
  // A share p of all (row, x_t), drawn at random once for all runs, where each row keeps an x_t:
  //   pairs:p  row x_{t-1}: what is read after what. x_1 is free
  //   cells:p  row a_{t-1}: what is read at which product
  // `elements`: the alphabet, ascending. ValueError: another text, a share that holds out nothing,
  // or one that leaves a row without choice.
  HoldOut(std::string_view text, const Group& group, std::vector<int> elements);

  // What training may read there, ascending.
  const std::vector<int>& choices(const WordPlace& place) const {
    return pairs_ && place.last < 0 ? elements_ : choices_[pairs_ ? place.last : place.state];
  }
  // Whether the element is held out at that place.
  bool holds(const WordPlace& place, int element) const;
  // The probability that the t-th element of an evaluation, t from 1, is held out at its place.
  double share_at(int64_t t) const;

 private:
  void hold_out(double share, const std::vector<int>& rows);
  std::vector<double> shares(const Group& group) const;

  bool pairs_;
  std::vector<int> elements_;
  std::vector<std::vector<int>> choices_;  // of each element of the group as a row
  std::vector<double> shares_;             // at t = 1, 2, ..; the last one from there on
};

}  // namespace fprnn
