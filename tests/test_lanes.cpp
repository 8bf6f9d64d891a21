// Lanes of stories: how they are dealt, and what batches of them hold.
#include <doctest/doctest.h>
#include <fprnn/tasks/babi/lanes.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <set>

#include "context.h"

namespace fprnn::tests {

using namespace babi;

namespace {

constexpr int32_t kAsk = 2;

// Stories of 2 to 40 words that occur once, but for a `?` as every fifth.
std::vector<Story> numbered_stories(int64_t n) {
  std::vector<Story> stories;
  int32_t word = 10;
  for (int64_t i = 0; i < n; ++i) {
    Story& story = stories.emplace_back(Story{.task = 1 + i % 3});
    const int64_t words = 2 + Rng{5}.below(i, 39);
    for (int64_t k = 0; k < words; ++k) story.words.push_back(k % 5 == 3 ? kAsk : word++);
    if (story.words.back() == kAsk) story.words.push_back(word++);
  }
  return stories;
}

std::vector<int64_t> in_order(int64_t n) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

// The tokens of all batches by the authors' loop: fill lanes until each holds so many, then take.
std::vector<std::vector<int32_t>> filled(const std::vector<Story>& stories,
                                         const std::vector<int64_t>& order, size_t lanes,
                                         size_t held, size_t length) {
  std::vector<std::deque<int32_t>> buffers(lanes);
  std::vector<std::vector<int32_t>> batches;
  for (size_t next = 0;;) {
    const auto shortest = [&] {
      return std::ranges::min_element(buffers, {}, [](auto& b) { return b.size(); });
    };
    while (next < order.size() && shortest()->size() < held) {
      auto& lane = *shortest();
      lane.push_back(kEos);
      for (const int32_t word : stories[order[next]].words) lane.push_back(word);
      ++next;
    }
    if (std::ranges::all_of(buffers, [](auto& b) { return b.empty(); })) return batches;
    std::vector<int32_t>& batch = batches.emplace_back();
    for (auto& lane : buffers)
      for (size_t t = 0; t < length; ++t) {
        batch.push_back(lane.empty() ? kPad : lane.front());
        if (!lane.empty()) lane.pop_front();
      }
  }
}

}  // namespace

TEST_CASE("catbabi: lanes are those of the authors' loop, however many tokens it holds") {
  const Context context = host_context();
  const std::vector<Story> stories = numbered_stories(150);
  for (const auto& order : {in_order(150), shuffled(150, Rng{3})})
    for (const int64_t lanes : {1, 3, 7, 200})
      for (const int64_t length : {1, 13, 200}) {
        CAPTURE(lanes);
        CAPTURE(length);
        const Lanes pass(stories, order, lanes, length);
        for (const size_t held : {200, 800}) {
          const auto batches = filled(stories, order, lanes, held, length);
          REQUIRE(int64_t(batches.size()) == pass.batches());
          for (int64_t i = 0; i < pass.batches(); ++i)
            REQUIRE(pass.batch(context, i, kAsk, Loss::answers).tokens.to_vector() == batches[i]);
        }
      }
}

TEST_CASE("catbabi: each story is read once a pass; each question has one target, its answer") {
  const Context context = host_context();
  const std::vector<Story> stories = numbered_stories(90);
  const Lanes pass(stories, shuffled(90, Rng{4}), 4, 11);
  std::vector<std::vector<int32_t>> tokens(4), targets(4);
  std::vector<std::vector<real>> counted(4);
  for (int64_t i = 0; i < pass.batches(); ++i) {
    const Batch batch = pass.batch(context, i, kAsk, Loss::answers),
                all = pass.batch(context, i, kAsk, Loss::words);
    CHECK(all.counted.to_vector() == batch.counted.to_vector());
    CHECK(all.tokens.to_vector() == batch.tokens.to_vector());
    const auto token = batch.tokens.to_vector(), target = batch.targets.to_vector();
    const auto count = batch.counted.to_vector(), mask = batch.mask.to_vector(),
               every = all.mask.to_vector();
    for (int64_t b = 0; b < 4; ++b)
      for (int64_t t = 11 * b; t < 11 * (b + 1); ++t) {
        CHECK((count[t] != 0) == (token[t] == kAsk));
        CHECK(mask[t] == (count[t] != 0 ? 1 : 0));
        CHECK(every[t] == (token[t] != kPad ? 1 : 0));
        if (token[t] == kPad) continue;
        tokens[b].push_back(token[t]);
        targets[b].push_back(target[t]);
        counted[b].push_back(count[t]);
      }
  }
  std::set<std::vector<int32_t>> left;
  for (const Story& story : stories) left.insert(story.words);
  CHECK(left.size() == 90);
  for (int64_t b = 0; b < 4; ++b) {
    for (size_t t = 0; t + 1 < tokens[b].size(); ++t) REQUIRE(targets[b][t] == tokens[b][t + 1]);
    CHECK(targets[b].back() == kEos);
    for (size_t begin = 0; begin < tokens[b].size();) {
      REQUIRE(tokens[b][begin] == kEos);
      const auto end = std::find(tokens[b].begin() + begin + 1, tokens[b].end(), kEos);
      const std::vector<int32_t> words(tokens[b].begin() + begin + 1, end);
      CHECK(left.erase(words) == 1);
      const auto story = std::ranges::find(stories, words, &Story::words);
      REQUIRE(story != stories.end());
      for (size_t k = 0; k < words.size(); ++k)
        CHECK(counted[b][begin + 1 + k] == (words[k] == kAsk ? real(story->task) : 0));
      begin = end - tokens[b].begin();
    }
  }
  CHECK(left.empty());
}

TEST_CASE("catbabi: the order of a pass is a permutation, and a function of its stream") {
  const auto order = shuffled(1000, Rng{1, 2});
  CHECK(order == shuffled(1000, Rng{1, 2}));
  CHECK(order != shuffled(1000, Rng{1, 3}));
  CHECK(order != shuffled(1000, Rng{2, 2}));
  auto sorted = order;
  std::ranges::sort(sorted);
  CHECK(sorted == in_order(1000));
  CHECK(shuffled(0, Rng{1}).empty());
}

}  // namespace fprnn::tests
