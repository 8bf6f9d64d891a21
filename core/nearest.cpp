#include <fmt/format.h>
#include <fprnn/core/nearest.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace fprnn {

namespace {

char folded(char c) {
  return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// How many letters must be inserted, removed, replaced or exchanged with the next one.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_before, before, row(b.size() + 1);  // from a prefix of a to those of b
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_before = std::move(before);
    before = std::move(row);
    row.assign(b.size() + 1, i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = folded(a[i - 1]) == folded(b[j - 1]);
      row[j] = std::min({before[j] + 1, row[j - 1] + 1, before[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
          folded(a[i - 2]) == folded(b[j - 1]))
        row[j] = std::min(row[j], two_before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

std::string nearest(std::string_view name, std::span<const std::string> names) {
  std::string nearest;
  size_t least = std::string::npos;
  for (const std::string& candidate : names) {
    const auto [shorter, longer] = std::minmax({name.size(), candidate.size()});
    const size_t allowed = shorter / 4;
    if (longer - shorter > allowed) continue;
    const size_t distance = edit_distance(name, candidate);
    if (distance > allowed || distance >= least) continue;
    nearest = candidate;
    least = distance;
  }
  return nearest;
}

std::string did_you_mean(const std::string& name) {
  return name.empty() ? "" : fmt::format(" (did you mean {}?)", name);
}

}  // namespace fprnn
