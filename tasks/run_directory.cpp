#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/run_directory.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace fprnn {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTag = "run directory";
constexpr int64_t kMaxMetrics = int64_t{1} << 30;

// The lines of steps up to `steps`; one that was cut short has no end and goes too.
std::string lines_until(const std::string& text, int64_t steps, const std::string& source) {
  std::string kept;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    if (step_metrics_from_json(line, source).step <= steps) kept += line + '\n';
  }
  return kept;
}

}  // namespace

RunDirectory::RunDirectory(std::string path)
    : path_(std::move(path)), metrics_(std::fopen(file("metrics.jsonl").c_str(), "ae")) {
  require<FileError>(metrics_ != nullptr, kTag, "the file must be writable: path and reason",
                     file("metrics.jsonl"), std::strerror(errno));
}

RunDirectory RunDirectory::create(const std::string& path, const std::string& config) {
  require<UsageError>(!fs::exists(path + "/config.json"), kTag,
                      "there is a run in it: go on with --resume, or name another --out", path);
  std::error_code error;
  fs::create_directories(path, error);
  require<FileError>(!error, kTag, "it must be possible to make it: path and reason", path,
                     error.message());
  replace_file(path + "/config.json", config);
  return RunDirectory(path);
}

RunDirectory RunDirectory::go_on(const std::string& path, int64_t steps) {
  const std::string metrics = path + "/metrics.jsonl";
  if (fs::exists(metrics))
    replace_file(metrics, lines_until(read_file(metrics, kMaxMetrics), steps, metrics));
  return RunDirectory(path);
}

void RunDirectory::log(const StepMetrics& metrics) {
  const std::string line = to_json(metrics) + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), metrics_.get()) == line.size() &&
                       std::fflush(metrics_.get()) == 0;
  require<FileError>(written, kTag, "the file must be writable: path and reason",
                     file("metrics.jsonl"), std::strerror(errno));
}

void RunDirectory::write(const Evaluation& evaluation) const {
  replace_file(file("eval.json"), to_json(evaluation));
}

void RunDirectory::write_report(const std::string& svg) const {
  replace_file(file("report.svg"), svg);
}

}  // namespace fprnn
