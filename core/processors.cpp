#include <fprnn/core/processors.h>
#include <fprnn/core/text.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

namespace fprnn {

namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// mountinfo writes a space as \040, three octal digits.
std::string unescaped(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    const char* at = text.data() + i;
    if (*at == '\\' && i + 3 < text.size() &&
        std::from_chars(at + 1, at + 4, code, 8).ptr == at + 4) {
      result += static_cast<char>(code);
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

bool contains(const std::string& list, std::string_view name) {
  return std::ranges::count(split(list, ','), name) > 0;
}

// The group's path in a hierarchy: of a line "0::/path" of version 2 and "4:cpu,cpuacct:/path" of
// version 1.
std::optional<std::string> group_path(std::string_view cgroup, int version) {
  for (const std::string& line : split(cgroup, '\n')) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version == 2 ? line.substr(0, first) == "0" && controllers.empty()
                     : contains(controllers, "cpu"))
      return line.substr(second + 1);
  }
  return std::nullopt;
}

// Where a hierarchy is mounted, and which of its groups is seen there.
struct Mount {
  std::string root, point;
};
std::optional<Mount> mount_of(std::string_view mountinfo, int version) {
  for (const std::string& line : split(mountinfo, '\n')) {
    // "31 23 0:28 ROOT POINT options [optional fields] - TYPE source OPTIONS"
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = split(line.substr(0, dash), ' '), after = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    if (version == 2 ? after[0] == "cgroup2" : after[0] == "cgroup" && contains(after[2], "cpu"))
      return Mount{unescaped(before[3]), unescaped(before[4])};
  }
  return std::nullopt;
}

// Processors that the group in this folder is limited to.
std::optional<double> quota_in(const std::string& folder, int version, const ReadFile& read) {
  const auto words_of = [&](const char* name) { return words(read(folder + name).value_or("")); };
  std::vector<std::string> numbers;  // "max 100000", "150000 100000", "150000"; -1: none
  if (version == 2) {
    numbers = words_of("/cpu.max");
    if (numbers.size() == 1) numbers.emplace_back("100000");
  } else {
    numbers = words_of("/cpu.cfs_quota_us");
    std::ranges::copy(words_of("/cpu.cfs_period_us"), std::back_inserter(numbers));
  }
  if (numbers.size() < 2) return std::nullopt;
  const auto quota = number_in<int64_t>(numbers[0]), period = number_in<int64_t>(numbers[1]);
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<std::string> content(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::optional<int> threads_wanted(std::string_view omp_num_threads) {
  const std::vector<std::string> first = words(split(omp_num_threads, ',')[0]);
  const auto threads = first.size() == 1 ? number_in<int>(first[0]) : std::nullopt;
  return threads && *threads >= 1 && *threads <= 1024 ? threads : std::nullopt;
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
  if (const std::optional<int> wanted = threads_wanted(variable("OMP_NUM_THREADS"))) return *wanted;
  return threads_for(omp_get_num_procs(),
                     granted_processors(content("/proc/self/cgroup").value_or(""),
                                        content("/proc/self/mountinfo").value_or(""), content));
}

int threads_within_limit(int wanted) {
  const std::optional<int> limit = threads_wanted(variable("OMP_THREAD_LIMIT"));
  return limit ? std::min(wanted > 0 ? wanted : default_threads(), *limit) : wanted;
}

}  // namespace fprnn
