// The folder that a run writes: config.json, starts.jsonl, metrics.jsonl, eval.json, report.svg,
// checkpoints and LATEST (models/checkpoint.h), and `lock` (core/file.h). Files that do
// not grow are replaced at once.
#pragma once

#include <fprnn/core/file.h>
#include <fprnn/tasks/report/record.h>

#include <optional>

namespace fprnn {

// The runs of a folder of seeds (tasks/run/seeds.h), ascending; none in any other folder.
std::vector<uint64_t> seeds_in(const std::string& folder);
std::string seed_folder(const std::string& folder, uint64_t seed);  // FOLDER/seed_<n>

// Who wants to write into a folder: what is there already that it would spoil.
enum class Wants { run, evaluation, comparison };

// UsageError: the folder has a run or results in it; a comparison replaces an earlier one, that of a
// folder of seeds too.
void check_unused(const std::string& path, Wants wants);

// Holds the folder: UsageError where another program does.
class RunDirectory {
 public:
  // FileError: it cannot be made or written. UsageError: see check_unused.
  static RunDirectory create(const std::string& path, const std::string& config);
  static RunDirectory for_results(const std::string& path, Wants wants);
  // One that is there, to go on.
  explicit RunDirectory(const std::string& path);

  // Later steps are logged after those up to `steps`: later lines of metrics.jsonl, which those
  // steps will write again, go.
  void go_on(int64_t steps);

  // The folder.
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  // Appends to starts.jsonl. FileError.
  void log(const RunStart& start) const { LineFile(file("starts.jsonl")).append(to_json(start)); }
  // On disk when it returns, but for the system's caches. FileError: also where metrics.jsonl is no
  // longer the file that was written.
  void log(const StepMetrics& metrics) { metrics_->append(to_json(metrics)); }
  // Replaces eval.json; the next, report.svg. FileError.
  void write(const Evaluation& evaluation) const;
  void write_report(const std::string& svg) const { replace_file(file("report.svg"), svg); }

 private:
  std::string path_;
  FolderLock lock_;
  std::optional<LineFile> metrics_;
};

}  // namespace fprnn
