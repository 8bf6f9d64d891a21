#include <fprnn/core/check.h>
#include <fprnn/tasks/run/run_directory.h>

#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

constexpr const char* kTag = "run directory";

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
  for (const char* name : {"metrics.jsonl", "eval.json", "LATEST", "checkpoints", "report.svg"})
    require<UsageError>(
        !has(name) || (wants == Wants::comparison && name == std::string_view("report.svg")), kTag,
        "there are results of another run in it: name another --out", path, name);
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
