// A run's folder, read back as its programs and a kill might leave it.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/report/record.h>

#include <algorithm>
#include <filesystem>

#include "folder.h"
#include "refused.h"
#include "sample_run.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;

// NaN beside NaN is the same.
bool same_steps(const std::vector<StepMetrics>& x, const std::vector<StepMetrics>& y) {
  return std::ranges::equal(
      x, y, {}, [](const StepMetrics& m) { return to_json(m); },
      [](const StepMetrics& m) { return to_json(m); });
}

}  // namespace

TEST_CASE("run folder: a run directory is read back") {
  const Folder folder;
  const RunResult run = sample_run("", {1, 0.5}, true, 5);
  write_file(folder.file("eval.json"), to_json(run.evaluation));
  const std::string name = fs::path(folder.path()).filename();
  for (const std::string& path : {folder.path(), folder.path() + "/", folder.path() + "/./"}) {
    const RunResult read = read_run(path);
    CHECK(read.name == name);
    CHECK(read.evaluation == run.evaluation);
    CHECK(read.metrics.empty());
  }
  std::string lines;
  for (const StepMetrics& metrics : run.metrics) lines += to_json(metrics) + "\n";
  write_file(folder.file("metrics.jsonl"), lines);
  CHECK(read_run(folder.path()).metrics == run.metrics);

  // A kill leaves a part of a line, or all of it without its end.
  for (const std::string& part : {std::string("{\"st"), to_json(run.metrics[0])}) {
    write_file(folder.file("metrics.jsonl"), lines + part);
    CHECK(read_run(folder.path()).metrics == run.metrics);
  }
  for (const char* part : {"{\"st\n", "\n", "{}\n"}) {
    write_file(folder.file("metrics.jsonl"), lines + part);
    check_refused<FormatError>("metrics.jsonl:6", [&] { read_run(folder.path()); });
  }
}

TEST_CASE("run folder: folders that cannot be read are refused") {
  const Folder folder;
  const auto read = [&] { read_run(folder.path()); };
  check_refused<FileError>("eval.json", read);
  check_refused<FileError>("nowhere", [] { read_run("/nowhere"); });
  check_refused<FileError>("eval.json", [] { read_run(""); });
  fs::create_directory(folder.file("eval.json"));
  check_refused<FileError>("eval.json", read);
  fs::remove(folder.file("eval.json"));
  fs::create_symlink("/dev/zero", folder.file("eval.json"));
  check_refused<FileError>("eval.json", read);
  fs::remove(folder.file("eval.json"));
  write_file(folder.file("eval.json"), "");
  check_refused<FormatError>("eval.json", read);
  write_file(folder.file("eval.json"), to_json(sample_run("", {0.5}, true).evaluation));
  fs::create_directory(folder.file("metrics.jsonl"));
  check_refused<FileError>("metrics.jsonl", read);
  fs::remove(folder.file("metrics.jsonl"));
  write_file(folder.file("metrics.jsonl"), "");
  CHECK(read_run(folder.path()).metrics.empty());
  write_file(folder.file("metrics.jsonl"), std::string(1 << 20, ' '));
  check_refused<FileError>("longer", read);
  fs::resize_file(folder.file("eval.json"), 64'000'001);
  check_refused<FileError>("larger", read);
}

// Spaces between the members make the file as large as that of many steps.
TEST_CASE("run folder: metrics.jsonl may be of any size") {
  const Folder folder;
  const RunResult run = sample_run("", {1}, true, 1100);
  write_file(folder.file("eval.json"), to_json(run.evaluation));
  std::string lines;
  for (const StepMetrics& metrics : run.metrics)
    lines += "{" + std::string(60'000, ' ') + to_json(metrics).substr(1) + "\n";
  REQUIRE(lines.size() > 64'000'000);
  write_file(folder.file("metrics.jsonl"), lines);
  CHECK(same_steps(read_run(folder.path()).metrics, run.metrics));
}

}  // namespace fprnn::tests
