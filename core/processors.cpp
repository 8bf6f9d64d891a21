#include <fprnn/core/processors.h>
#include <omp.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

namespace fprnn {

namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string_view trimmed(std::string_view text) {
  const auto space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<int64_t> number(std::string_view text) {
  text = trimmed(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// mountinfo writes a space as \040, three octal digits.
std::string unescaped(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr ==
            text.data() + i + 4) {
      result += static_cast<char>(code);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool contains(const std::vector<std::string_view>& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// The group's path in a hierarchy: of a line "0::/path" of version 2 and "4:cpu,cpuacct:/path" of
// version 1.
std::optional<std::string> group_path(std::string_view cgroup, int version) {
  for (const std::string_view line : split(cgroup, '\n')) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool found = version == 2 ? line.substr(0, first) == "0" && controllers.empty()
                                    : contains(split(controllers, ','), "cpu");
    if (found) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// Where a hierarchy is mounted, and which of its groups is seen there.
struct Mount {
  std::string root, point;
};
std::optional<Mount> mount_of(std::string_view mountinfo, int version) {
  for (const std::string_view line : split(mountinfo, '\n')) {
    // "31 23 0:28 ROOT POINT options [optional fields] - TYPE source OPTIONS"
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto before = split(line.substr(0, dash), ' '), after = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    const bool found = version == 2 ? after[0] == "cgroup2"
                                    : after[0] == "cgroup" && contains(split(after[2], ','), "cpu");
    if (found) return Mount{unescaped(before[3]), unescaped(before[4])};
  }
  return std::nullopt;
}

// Processors that the group in this folder is limited to.
std::optional<double> quota_in(const std::string& folder, int version, const ReadFile& read) {
  std::optional<int64_t> quota, period;
  if (version == 2) {
    const std::optional<std::string> text =
        read(folder + "/cpu.max");  // "max 100000", "150000 100000"
    if (!text) return std::nullopt;
    const auto words = split(trimmed(*text), ' ');
    quota = number(words[0]);
    period = words.size() > 1 ? number(words[1]) : 100000;
  } else {
    const auto of_file = [&](const char* name) {
      const std::optional<std::string> text = read(folder + name);
      return text ? number(*text) : std::nullopt;
    };
    quota = of_file("/cpu.cfs_quota_us");  // -1: none
    period = of_file("/cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<std::string> content(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

std::optional<int> threads_wanted(std::string_view omp_num_threads) {
  const std::optional<int64_t> first = number(split(omp_num_threads, ',')[0]);
  if (!first || *first < 1 || *first > 1024) return std::nullopt;
  return static_cast<int>(*first);
}

std::optional<double> granted_processors(std::string_view cgroup, std::string_view mountinfo,
                                         const ReadFile& read) {
  std::optional<double> least;
  for (const int version : {2, 1}) {
    const std::optional<std::string> path = group_path(cgroup, version);
    const std::optional<Mount> mount = mount_of(mountinfo, version);
    if (!path || !mount) continue;
    // The path below the mount; that of a group outside of what is mounted here is not seen.
    const std::string root = mount->root == "/" ? "" : mount->root;
    std::string below;
    if (path->starts_with(root) && (path->size() == root.size() || (*path)[root.size()] == '/'))
      below = path->substr(root.size());
    while (!below.empty() && below.back() == '/') below.pop_back();
    for (;;) {
      if (const std::optional<double> quota = quota_in(mount->point + below, version, read))
        least = std::min(*quota, least.value_or(*quota));
      if (below.empty()) break;
      below.resize(below.rfind('/'));
    }
  }
  return least;
}

int threads_for(int processors, std::optional<double> granted) {
  const double quota = granted ? std::ceil(*granted) : processors;
  return static_cast<int>(std::clamp<double>(std::min<double>(processors, quota), 1, 1024));
}

int default_threads() {
  const char* variable = std::getenv("OMP_NUM_THREADS");
  if (const std::optional<int> wanted = threads_wanted(variable != nullptr ? variable : ""))
    return *wanted;
  return threads_for(omp_get_num_procs(),
                     granted_processors(content("/proc/self/cgroup").value_or(""),
                                        content("/proc/self/mountinfo").value_or(""), content));
}

}  // namespace fprnn
