#include <fmt/format.h>
#include <fprnn/core/file.h>
#include <fprnn/models/run_checkpoints.h>

#include <algorithm>
#include <filesystem>

namespace fprnn {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpoints = "checkpoints";
constexpr std::string_view kLatest = "LATEST";
constexpr std::string_view kPrefix = "step_";
constexpr size_t kDigits = 8;

std::string in(const std::string& folder, std::string_view name) {
  return fmt::format("{}/{}", folder, name);
}

bool is_checkpoint_name(std::string_view name) {
  return name.size() == kPrefix.size() + kDigits && name.starts_with(kPrefix) &&
         name.find_first_not_of("0123456789", kPrefix.size()) == std::string_view::npos;
}

// The name that LATEST holds. Exactly one form is accepted, so it cannot lead out of the run.
std::string read_latest(const std::string& run) {
  const std::string path = in(run, kLatest);
  const std::string before = fmt::format("{}/", kCheckpoints);
  const std::string text = read_file(path, 1024);
  const bool sound = text.starts_with(before) && text.ends_with('\n');
  const std::string name =
      sound ? text.substr(before.size(), text.size() - before.size() - 1) : std::string();
  require<FormatError>(is_checkpoint_name(name), "checkpoint",
                       "LATEST must be checkpoints/step_ and eight digits: file and text", path,
                       text);
  return name;
}

std::vector<std::string> checkpoint_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;
    const std::string name = entry->path().filename();
    if (is_checkpoint_name(name) && fs::is_directory(entry->symlink_status(unknown)))
      names.push_back(name);
  }
  require<FileError>(!error, "checkpoint", "the folder must be readable", folder, error.message());
  return names;
}

// The checkpoint of the highest step; none where there is none.
std::string highest_name(const std::string& run) {
  const std::string folder = in(run, kCheckpoints);
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return {};
  const std::vector<std::string> names = checkpoint_names(folder);
  return names.empty() ? std::string() : *std::ranges::max_element(names);
}

// A link that leads nowhere is as good as no file.
bool has_latest(const std::string& run) {
  std::error_code ignored;
  return fs::exists(in(run, kLatest), ignored);
}

void check_keep(int64_t keep) {
  require<ValueError>(keep >= 1, "checkpoint", "at least one checkpoint must be kept", keep);
}

}  // namespace

std::string save_run_checkpoint(const std::string& run, Module& model, const AdamW& optimiser,
                                const CheckpointState& state, int64_t keep) {
  require<ValueError>(state.step >= 0 && state.step < 100'000'000, "checkpoint",
                      "a step must have at most eight digits", state.step);
  check_keep(keep);
  const std::string checkpoints = in(run, kCheckpoints);
  std::error_code error;
  fs::create_directories(checkpoints, error);
  require<FileError>(!error, "checkpoint", "the folder must be writable", checkpoints,
                     error.message());
  const std::string name = fmt::format("{}{:0{}}", kPrefix, state.step, kDigits);
  save_checkpoint(in(checkpoints, name), model, optimiser, state);
  replace_file(in(run, kLatest), fmt::format("{}/{}\n", kCheckpoints, name));
  prune_checkpoints(run, keep);
  return in(checkpoints, name);
}

std::string latest_checkpoint(const std::string& run) {
  const std::string name = has_latest(run) ? read_latest(run) : highest_name(run);
  require<FileError>(!name.empty(), "checkpoint",
                     "a run must have LATEST or a folder in checkpoints", run);
  const std::string folder = in(in(run, kCheckpoints), name);
  std::error_code error;
  require<FileError>(fs::is_directory(folder, error), "checkpoint",
                     "the checkpoint that LATEST names must be a folder", folder);
  return folder;
}

bool has_checkpoint(const std::string& run) {
  return has_latest(run) || !highest_name(run).empty();
}

void prune_checkpoints(const std::string& run, int64_t keep) {
  check_keep(keep);
  const std::string checkpoints = in(run, kCheckpoints), latest = read_latest(run);
  std::vector<std::string> names = checkpoint_names(checkpoints);
  std::erase(names, latest);
  std::ranges::sort(names, std::ranges::greater());
  for (size_t i = keep - 1; i < names.size(); ++i) remove_folder(in(checkpoints, names[i]));
  remove_temporaries(checkpoints);
  remove_temporaries(run, kLatest);
}

}  // namespace fprnn
