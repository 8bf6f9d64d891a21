// Runs side by side, where those that differ by their seed alone are one.
#pragma once

#include <fprnn/tasks/report/run_groups.h>
#include <fprnn/tasks/run/run_directory.h>

namespace fprnn {

// The runs of a folder of seeds (run_directory.h); those without a readable result have failed.
RunGroup read_seeds(const std::string& folder);
// Of folders, comma-separated: run directories, and folders of seeds, which are a group each.
// UsageError: none is named. FormatError, FileError: as read_run.
std::vector<RunGroup> read_groups(std::string_view folders);

// report.svg, summary.csv and summary.json, whose names are printed.
void write_groups(const RunDirectory& out, RunGroups groups);

// Shows them and, unless `out` is empty, writes them there. UsageError: there is a run in it.
void compare(std::string_view folders, const std::string& out);

}  // namespace fprnn
