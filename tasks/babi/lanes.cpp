#include <fprnn/core/check.h>
#include <fprnn/tasks/babi/lanes.h>
#include <fprnn/tasks/draws.h>

#include <algorithm>
#include <numeric>
#include <queue>

namespace fprnn::babi {

namespace {

int64_t tokens_of(const Story& story) { return static_cast<int64_t>(story.words.size()) + 1; }

}  // namespace

std::vector<int64_t> shuffled(int64_t n, const Rng& rng) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  Draws draws(rng, 0);
  for (int64_t i = n; i > 1; --i) std::swap(order[i - 1], order[draws.below(i)]);
  return order;
}

std::vector<std::vector<int64_t>> deal(std::span<const int64_t> lengths, int64_t lanes) {
  using End = std::pair<int64_t, int64_t>;  // of a lane, and the lane
  std::priority_queue<End, std::vector<End>, std::greater<>> ends;
  for (int64_t lane = 0; lane < lanes; ++lane) ends.push({0, lane});
  std::vector<std::vector<int64_t>> dealt(lanes);
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto [end, lane] = ends.top();
    ends.pop();
    dealt[lane].push_back(static_cast<int64_t>(i));
    ends.push({end + lengths[i], lane});
  }
  return dealt;
}

Lanes::Lanes(std::span<const Story> stories, std::span<const int64_t> order, int64_t lanes,
             int64_t length)
    : length_(length) {
  check_batch("lanes", lanes, length);
  std::vector<int64_t> lengths;
  for (const int64_t i : order) lengths.push_back(tokens_of(stories[i]));
  for (const std::vector<int64_t>& dealt : deal(lengths, lanes)) {
    std::vector<Placed>& lane = lanes_.emplace_back();
    int64_t end = 0;
    for (const int64_t i : dealt) {
      lane.push_back({end, &stories[order[i]]});
      end += lengths[i];
    }
    batches_ = std::max(batches_, (end + length - 1) / length);
  }
}

Batch Lanes::batch(const Context& context, int64_t i, int32_t question_mark, Loss loss) const {
  const auto B = static_cast<int64_t>(lanes_.size()), T = length_, from = i * T;
  std::vector<int32_t> tokens(B * T, kPad), targets = tokens;
  std::vector<real> mask(B * T), counted = mask;
  for (int64_t b = 0; b < B; ++b) {
    const std::vector<Placed>& lane = lanes_[b];
    const auto after = std::ranges::upper_bound(lane, from, {}, &Placed::begin);
    auto at = after == lane.begin() ? after : std::prev(after);
    for (; at != lane.end() && at->begin < from + T; ++at) {
      const std::vector<int32_t>& words = at->story->words;
      const int64_t n = tokens_of(*at->story);
      for (int64_t k = std::max<int64_t>(0, from - at->begin); k < n; ++k) {
        const int64_t t = at->begin + k - from, cell = b * T + t;
        if (t >= T) break;
        tokens[cell] = k == 0 ? kEos : words[k - 1];
        targets[cell] = k == n - 1 ? kEos : words[k];
        const bool asks = tokens[cell] == question_mark;
        counted[cell] = asks ? static_cast<real>(at->story->task) : 0;
        mask[cell] = loss == Loss::words || asks ? 1 : 0;
      }
    }
  }
  return {.tokens = IntTensor(context, {B, T}, tokens),
          .targets = IntTensor(context, {B, T}, targets),
          .mask = Tensor(context, {B, T}, mask),
          .counted = Tensor(context, {B, T}, counted),
          .starts = i == 0};
}

}  // namespace fprnn::babi
