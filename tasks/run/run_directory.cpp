#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/run_directory.h>

#include <algorithm>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

constexpr const char* kTag = "run directory";

std::string seed_folder(const std::string& folder, uint64_t seed) {
  return fmt::format("{}/seed_{}", folder, seed);
}

std::vector<uint64_t> seeds_in(const std::string& folder) {
  constexpr std::string_view kPrefix = "seed_";
  std::vector<uint64_t> seeds;
  std::error_code error, ignored;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const auto seed = number_in<uint64_t>(std::string_view(name).substr(kPrefix.size()));
    if (seed && fs::exists(seed_folder(folder, *seed) + "/config.json", ignored))
      seeds.push_back(*seed);
  }
  std::ranges::sort(seeds);
  return seeds;
}

void check_unused(const std::string& path, Wants wants) {
  std::error_code ignored;
  const auto has = [&](const char* name) {
    return fs::exists(fs::symlink_status(path + "/" + name, ignored));
  };
  require<UsageError>(!has("config.json"), kTag,
                      wants == Wants::run
                          ? "there is a run in it: go on with --resume, or name another --out"
                          : "there is a run in it: name another --out",
                      path);
  for (const char* name : {"metrics.jsonl", "eval.json", "LATEST", "checkpoints", "best"})
    require<UsageError>(!has(name), kTag,
                        "there are results of another run in it: name another --out", path, name);
  if (wants == Wants::comparison) return;
  require<UsageError>(seeds_in(path).empty(), kTag,
                      "there are seeds in it: go on with --resume, or name another --out", path);
  for (const char* name : {"report.svg", "summary.csv", "summary.json"})
    require<UsageError>(!has(name), kTag,
                        "there are results of other runs in it: name another --out", path, name);
}

RunDirectory::RunDirectory(const std::string& path) : path_(path), lock_(path) {}

RunDirectory RunDirectory::for_results(const std::string& path, Wants wants) {
  check_unused(path, wants);
  std::error_code error;
  fs::create_directories(path, error);
  require<FileError>(!error, kTag, "it must be possible to make it: path and reason", path,
                     error.message());
  RunDirectory directory(path);
  check_unused(path, wants);  // by who held it until now
  return directory;
}

RunDirectory RunDirectory::create(const std::string& path, const std::string& config) {
  RunDirectory run = for_results(path, Wants::run);
  replace_file(run.file("config.json"), config);
  run.go_on(0);
  return run;
}

void RunDirectory::go_on(int64_t steps) {
  const std::string metrics = file("metrics.jsonl");
  if (fs::exists(metrics))
    replace_file(metrics, [&](OutputFile& kept) {
      std::string lines;
      for_each_step(metrics, [&](const StepMetrics& step, const std::string& line) {
        if (step.step <= steps) lines += line + "\n";
        if (lines.size() < 1 << 16) return;
        kept.write(lines);
        lines.clear();
      });
      kept.write(lines);
    });
  metrics_.emplace(metrics);
}

void RunDirectory::write(const Evaluation& evaluation) const {
  if (metrics_) metrics_->check();
  replace_file(file("eval.json"), to_json(evaluation));
}

}  // namespace fprnn
