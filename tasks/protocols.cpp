#include <fprnn/tasks/protocols.h>
#include <fprnn/tasks/task.h>

#include <set>

namespace fprnn {

namespace {

double share(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

std::set<int64_t> prefix_lengths(int64_t longest) {
  std::set<int64_t> lengths = {longest};
  for (int64_t k = 2; k <= 47 && k < longest; k += 5) lengths.insert(k);
  for (int64_t k = 16; k < longest; k *= 2) lengths.insert(k);
  return lengths;
}

// The share of whole sequences never rises.
int64_t longest_with(double share, const Curves& curves) {
  int64_t k = 0;
  while (k < curves.length() && curves.exact(k + 1) >= share) ++k;
  return k;
}

}  // namespace

void Curves::add(const IntTensor& answers, const Batch& batch) {
  bool exact = true;
  for_each_counted(answers, batch, [&](const Counted& place) {
    if (place.before == 0) exact = true;
    exact = exact && place.right;
    if (place.before == length()) at_.emplace_back();
    At& at = at_[place.before];
    ++at.counted;
    at.exact += exact;
    at.right += place.right;
  });
  for (const Score& score : scores(answers, batch))
    if (score.counted > 0) ends_[score.last].add(score.all_right() ? 1 : 0);
}

double Curves::exact(int64_t k) const { return share(at_[k - 1].exact, at_[k - 1].counted); }
double Curves::right(int64_t k) const { return share(at_[k - 1].right, at_[k - 1].counted); }
double Curves::tokens(int64_t k) const {
  int64_t right = 0, counted = 0;
  for (int64_t i = 0; i < k; ++i) {
    right += at_[i].right;
    counted += at_[i].counted;
  }
  return share(right, counted);
}

Protocols state_tracking_protocols(const Curves& curves, int64_t answers) {
  constexpr int64_t kFrom = 40, kTo = 256;
  const int64_t longest = curves.length();
  if (longest == 0) return {};
  Protocols protocols;
  for (const int64_t k : prefix_lengths(longest))
    protocols.prefixes.push_back({k,
                                  {{"whole_sequences", curves.exact(k)},
                                   {"tokens", curves.tokens(k)},
                                   {"last_token", curves.right(k)}}});
  do {
    protocols.exact.push_back(curves.all_right(std::ssize(protocols.exact) + 1));
  } while (std::ssize(protocols.exact) < longest && protocols.exact.back() > 0);
  NamedValues& figures = protocols.figures;
  figures.emplace_back("scaled_tokens", scaled(curves.tokens(longest), answers));
  if (longest >= kTo) {
    Mean last;
    for (int64_t k = kFrom; k <= kTo; ++k) last.add(curves.right(k));
    figures.emplace_back("last_token_40_256", last.value());
  }
  figures.emplace_back("longest_90", longest_with(0.9, curves));
  figures.emplace_back("longest_99", longest_with(0.99, curves));
  return protocols;
}

}  // namespace fprnn
