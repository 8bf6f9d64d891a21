// The folder that a run writes: config.json, metrics.jsonl, eval.json, report.svg, checkpoints and
// LATEST (models/checkpoint.h). Every file but metrics.jsonl, which grows, is replaced at once.
#pragma once

#include <fprnn/tasks/record.h>

#include <cstdio>
#include <memory>

namespace fprnn {

class RunDirectory {
 public:
  // FileError: it cannot be made or written. UsageError: there is a run in it already.
  static RunDirectory create(const std::string& path, const std::string& config);
  // Goes on after `steps`: later lines of metrics.jsonl, which those steps will write again, go.
  static RunDirectory go_on(const std::string& path, int64_t steps);

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  void log(const StepMetrics& metrics);  // on disk when it returns, but for the system's caches
  void write(const Evaluation& evaluation) const;
  void write_report(const std::string& svg) const;

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  explicit RunDirectory(std::string path);

  std::string path_;
  std::unique_ptr<std::FILE, Close> metrics_;
};

}  // namespace fprnn
