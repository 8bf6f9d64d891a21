#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/draws.h>
#include <fprnn/tasks/hold_out.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fprnn {

namespace {

constexpr uint64_t kWhich = 2;  // the seed

}  // namespace

HoldOut::HoldOut(std::string_view text, const Group& group, std::vector<int> elements)
    : pairs_(text.starts_with("pairs:")), elements_(std::move(elements)) {
  const double share = number_in<double>(text.substr(std::min<size_t>(text.size(), 6))).value_or(0);
  require<ValueError>((pairs_ || text.starts_with("cells:")) && share > 0 && share < 1, "hold_out",
                      "must be none, pairs:P or cells:P with a share P between 0 and 1", text);
  choices_.assign(group.order, elements_);
  hold_out(share, pairs_ ? elements_ : group.elements());
  shares_ = shares(group);
}

// In random order, passing over an element that is the last of its row.
void HoldOut::hold_out(double share, const std::vector<int>& rows) {
  const auto wide = static_cast<int64_t>(elements_.size());
  const auto high = static_cast<int64_t>(rows.size());
  int64_t left = std::llround(share * static_cast<double>(wide * high));
  require<ValueError>(left >= 1 && left <= (wide - 1) * high, "hold_out",
                      "the share must hold out one at least and leave each row one: held out, rows "
                      "and elements to read",
                      left, high, wide);
  std::vector<int64_t> places(wide * high);
  std::iota(places.begin(), places.end(), 0);
  Draws draws(Rng{.seed = kWhich}, 0);
  draw_to_front(places, wide * high, draws);
  for (const int64_t place : places) {
    std::vector<int>& row = choices_[rows[place / wide]];
    if (left == 0 || row.size() == 1) continue;
    std::erase(row, elements_[place % wide]);
    --left;
  }
}

bool HoldOut::holds(const WordPlace& place, int element) const {
  return !std::ranges::binary_search(choices(place), element);
}

double HoldOut::share_at(int64_t t) const {
  return shares_[std::min<size_t>(t, shares_.size()) - 1];
}

// Elements are read uniformly. The law of the product is followed until it stands still, which it
// does at once where every element is read.
std::vector<double> HoldOut::shares(const Group& group) const {
  constexpr double kStill = 1e-12;
  constexpr size_t kMost = 10'000;
  const auto wide = static_cast<double>(elements_.size());
  std::vector<double> held(group.order), shares;
  for (int row = 0; row < group.order; ++row)
    held[row] = 1 - static_cast<double>(choices_[row].size()) / wide;
  if (pairs_) return {0, std::accumulate(held.begin(), held.end(), 0.0) / wide};
  std::vector<double> law(group.order);
  law[group.identity] = 1;
  for (double moved = 1; moved > kStill && shares.size() < kMost;) {
    shares.push_back(std::inner_product(law.begin(), law.end(), held.begin(), 0.0));
    std::vector<double> next(group.order);
    for (int a = 0; a < group.order; ++a)
      for (const int x : elements_) next[group.product(a, x)] += law[a] / wide;
    moved = 0;
    for (int a = 0; a < group.order; ++a) moved = std::max(moved, std::abs(next[a] - law[a]));
    law = std::move(next);
  }
  return shares;
}

}  // namespace fprnn
