// runs.jsonl: what each run of the paper's rows reached, a line each. Numbers have five digits there,
// but none becomes a 1 that it is not.
#pragma once

#include <fprnn/tasks/report/record.h>

#include "rows.h"

namespace fprnn::paper {

struct Run {
  std::string row, label, scale;
  uint64_t seed = 0;
  std::string command = {};    // Row::command
  std::string date = {};       // that it ended, in UTC: 2026-11-30
  std::string failed = {};     // why it has no result; empty: it has one
  Evaluation evaluation = {};  // of a failed one the origin alone
  // The last logged step of its training: 0 iterations without fixed points.
  double loss = 0, iterations = 0;
  int64_t skipped = 0;
};

// A line, without its end; and read back: all but residuals, protocols' prefixes and what the interval
// of a share is computed from anew. FormatError with the source: it is another.
std::string to_line(const Run& run);
Run run_from_line(const std::string& line, const std::string& source);

// All of a file, of those with one command and label of a row the last. None if there is no file.
// FileError: it is unreadable, or a line has more than 64 KiB.
std::vector<Run> read_runs(const std::string& path);

// What a run directory says. FormatError, FileError: read_run.
void read_result(Run& run, const std::string& folder);

// The runs of a row that are still to be made: a training that has no line, or whose folder OUT/LABEL-SEED
// has no result though an evaluation needs it; an evaluation without a line behind its training's, unless
// that failed.
struct Job {
  const Entry* entry;
  uint64_t seed;
};
std::vector<Job> jobs_left(const Row& row, const std::vector<Run>& runs, const std::string& out);
// The folder of a run beneath OUT.
std::string folder_of(const std::string& out, const std::string& label, uint64_t seed);

}  // namespace fprnn::paper
