#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/babi/files.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

namespace fprnn::babi {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTag = "bAbI folder";

// A task and its part.
using Place = std::pair<int64_t, Part>;

// What a file's name says; nothing for a file of another kind. FormatError: a task that bAbI lacks.
std::optional<Place> place_of(const std::string& name) {
  const std::vector<std::string> words = split(name, '_');
  if (words.size() < 2 || !words.front().starts_with("qa")) return std::nullopt;
  const auto task = number_in<int64_t>(std::string_view(words.front()).substr(2));
  for (const Part part : kParts) {
    if (!task || words.back() != std::string(name_of(part)) + ".txt") continue;
    require<FormatError>(*task >= 1 && *task <= kTasks, kTag, "tasks must be 1 to 20", name);
    return Place{*task, part};
  }
  return std::nullopt;
}

std::map<Place, std::string> paths_in(const std::string& folder) {
  std::error_code error;
  std::map<Place, std::string> paths;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const auto place = place_of(entry->path().filename());
    if (!place) continue;
    const auto [other, first] = paths.emplace(*place, entry->path());
    require<UsageError>(first, kTag, "a task must have one file of each part, not two",
                        other->second, entry->path().string());
  }
  require<FileError>(!error, kTag, "it must be a folder that can be read: path and reason", folder,
                     error.message());
  require<UsageError>(!paths.empty(), kTag,
                      "there must be files of bAbI in it, such as qa1_train.txt", folder);
  return paths;
}

}  // namespace

std::string_view name_of(Part part) {
  constexpr std::string_view kNames[] = {"train", "valid", "test"};
  return kNames[static_cast<size_t>(part)];
}

void check_tasks(std::span<const int64_t> tasks) {
  for (const int64_t task : tasks)
    require<ValueError>(task >= 1 && task <= kTasks && std::ranges::count(tasks, task) == 1,
                        "tasks", "they must be 1 to 20, each once", task);
}

std::vector<File> read_folder(const std::string& folder, std::span<const int64_t> tasks) {
  check_tasks(tasks);
  const std::map<Place, std::string> paths = paths_in(folder);
  std::vector<int64_t> wanted(tasks.begin(), tasks.end());
  for (const auto& [place, path] : paths)
    if (tasks.empty() && (wanted.empty() || wanted.back() != place.first))
      wanted.push_back(place.first);
  std::vector<File> files;
  for (const Part part : kParts)
    for (const int64_t task : wanted) {
      const auto at = paths.find({task, part});
      if (at == paths.end()) {
        const std::string name = "qa" + std::to_string(task) + "_" + std::string(name_of(part));
        require<UsageError>(part == Part::valid, kTag, "it must have the file: folder and name",
                            folder, name + ".txt");
        continue;
      }
      files.push_back({task, part, at->second, read_file(at->second, kMostBytes)});
    }
  return files;
}

void write_folder(const std::string& folder, std::span<const File> files) {
  std::error_code ignored, error;
  const bool unused = !fs::exists(fs::symlink_status(folder, ignored)) ||
                      (fs::is_directory(folder, ignored) && fs::is_empty(folder, ignored));
  require<UsageError>(unused, kTag, "it must be new or empty", folder);
  const fs::path above = fs::path(folder).parent_path();
  if (!above.empty()) fs::create_directories(above, error);
  require<FileError>(!error, kTag, "it must be possible to make it: path and reason", folder,
                     error.message());
  replace_folder(folder, [&](const std::string& place) {
    for (const File& file : files) {
      OutputFile to(place + "/qa" + std::to_string(file.task) + "_" +
                    std::string(name_of(file.part)) + ".txt");
      to.write(file.text);
      to.finish();
    }
  });
}

}  // namespace fprnn::babi
