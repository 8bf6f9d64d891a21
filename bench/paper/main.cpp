// paper: which of the paper's runs are to be made, a line for one that was, and the document of all
// (docs/paper.md). docs/paper/run.sh and docs/paper/report call it.
#include <fmt/format.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/seeds.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <filesystem>

#include "document.h"

namespace {

using namespace fprnn;
using namespace fprnn::paper;
namespace fs = std::filesystem;

constexpr int64_t kMostDocument = 4'000'000, kMostChart = 4'000'000;  // bytes

struct Arguments {
  std::string row, scale = "gpu", out, runs, seeds, options;  // jobs
  std::string label, command, folder, failed;                 // record
  uint64_t seed = 0;
  std::string document;  // report
  bool check = false;
};

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
  return text;
}

// A line for each, separated by |: label, seed, the training that is evaluated or -,
// program, command, arguments besides --seed or --evaluate.
void print_jobs(const Arguments& a) {
  Row row = read_row(a.row, a.scale);
  if (!a.seeds.empty()) row.seeds = seeds_named(a.seeds);
  for (Entry& entry : row.entries)
    if (entry.of.empty()) entry.options = each_once(entry.options + " " + a.options);
  require<FormatError>(!row.entries.empty() && !row.seeds.empty(), "row",
                       "a row must have runs and seeds at the scale: file and scale", a.row,
                       a.scale);
  for (const auto& [entry, seed] : jobs_left(row, read_runs(a.runs), a.out))
    print(fmt::format("{}|{}|{}|{}|{}|{}\n", entry->label, seed,
                      entry->of.empty() ? "-" : entry->of, entry->program,
                      row.command(*entry, seed), entry->options));
}

void record(const Arguments& a) {
  Run run{.row = fs::path(a.row).filename(),
          .label = a.label,
          .scale = a.scale,
          .seed = a.seed,
          .command = a.command,
          .date = today(),
          .failed = a.failed};
  if (run.failed.empty()) {
    read_result(run, a.folder);
  } else {
    const BuildInfo build = build_info();
    run.evaluation.origin = {.version = build.version, .commit = build.commit, .seed = a.seed};
  }
  LineFile(a.runs).append(to_line(run));
}

std::vector<Row> read_rows(const fs::path& folder) {
  std::vector<std::string> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    paths.push_back(entry.path());
  std::ranges::sort(paths, {}, [](const std::string& path) {
    const std::string name = fs::path(path).filename();
    return std::pair(name.size(), name);  // 2 before 10
  });
  std::vector<Row> rows;
  for (const char* scale : {"gpu", "cpu", "test"})
    for (const std::string& path : paths) rows.push_back(read_row(path, scale));
  return rows;
}

std::string text_of(const std::string& path) {
  return fs::exists(path) ? read_file(path, kMostChart) : "";
}

// Of DOCUMENT.md the runs, rows and charts are in DOCUMENT/. 1: what is there is another, and check asks.
int report(const Arguments& a) {
  const fs::path folder = fs::path(a.document).replace_extension();
  const std::string text = read_file(a.document, kMostDocument);
  const Document made = made_document(text, folder.filename(), read_rows(folder / "rows"),
                                      read_runs(folder / "runs.jsonl"));
  std::vector<std::string> differ;
  if (made.text != text) differ.push_back(a.document);
  for (const auto& [name, svg] : made.charts)
    if (without_version(text_of(folder / name)) != without_version(svg))
      differ.push_back(folder / name);
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".svg" && !made.charts.contains(entry.path().filename()))
      differ.push_back(entry.path());
  for (const std::string& path : differ) {
    print(fmt::format("{} {}\n", a.check ? "not what the runs give:" : "written:", path));
    if (a.check) continue;
    if (path == a.document)
      replace_file(path, made.text);
    else if (const auto chart = made.charts.find(fs::path(path).filename());
             chart != made.charts.end())
      replace_file(path, chart->second);
    else
      fs::remove(path);
  }
  if (!a.check)
    for (const std::string& line : made.lacking) print(line);
  return a.check && !differ.empty() ? 1 : 0;
}

int run(int argc, char** argv) {
  Arguments a;
  CLI::App app{
      "The paper's runs: those to be made, a line for each that was, the document of all."};
  app.require_subcommand(1);
  CLI::App* jobs = app.add_subcommand("jobs", "Print the runs of a row that are still to be made");
  CLI::App* line = app.add_subcommand("record", "Add a run's line to runs.jsonl");
  for (CLI::App* command : {jobs, line}) {
    command->add_option("row", a.row, "File of the row")->required();
    command->add_option("runs", a.runs, "runs.jsonl")->required();
    command->add_option("--scale", a.scale, "gpu, cpu or test");
  }
  jobs->add_option("out", a.out, "Folder of the runs")->required();
  jobs->add_option("--seeds", a.seeds, "In place of the row's");
  jobs->add_option("--options", a.options, "Of each training, after its own");
  line->add_option("folder", a.folder, "Run directory")->required();
  line->add_option("--label", a.label)->required();
  line->add_option("--seed", a.seed)->required();
  line->add_option("--command", a.command)->required();
  line->add_option("--failed", a.failed, "Why there is no result");
  CLI::App* document = app.add_subcommand("report", "Write a document's tables and charts");
  document->add_option("document", a.document, "docs/paper.md")->required();
  document->add_flag("--check", a.check, "Write nothing; exit 1 if something would change");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (jobs->parsed()) print_jobs(a);
  if (line->parsed()) record(a);
  return document->parsed() ? report(a) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
}
