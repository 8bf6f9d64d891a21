// Runs that differ by their seed alone, as one: the median of what they reach, and how many solve
// their task. What is quoted of a group is the median, and a seed that failed counts as one that does
// not solve it.
#pragma once

#include <fprnn/tasks/report/report.h>

namespace fprnn {

// Runs with different seeds and nothing else.
struct RunGroup {
  std::string name;  // for people
  std::vector<RunResult> runs = {};
  std::vector<uint64_t> failed = {};  // seeds that have no result

  // How many, with those that failed.
  size_t seeds() const { return runs.size() + failed.size(); }
};
using RunGroups = std::span<const RunGroup>;

// In order of their first runs, and of the seeds in each. Runs are of one group if their
// configurations (config.json) but for the seed, their versions, commits and machines are equal, and
// their seeds differ. A run without configuration is alone. A group of several is named by what its
// runs' names begin with, or by its model.
std::vector<RunGroup> grouped(std::vector<RunResult> runs);

constexpr double kSolved = 0.99;  // of a main metric that is a share: from here the task is solved

// What a group's seeds reach at one length. NaN where none was evaluated there.
struct Spread {
  int64_t length = 0;
  std::vector<double> values = {};  // of each run, in their order
  double median = 0, least = 0, most = 0;
  // Seeds that solve it, and the interval of their share; nothing where the metric is no share.
  std::optional<int64_t> solved = {};
  Interval interval = {};
};
std::vector<Spread> spreads(const RunGroup& group, const MainMetric& metric);
double median(std::vector<double> values);  // of those that are no NaN; NaN without any

// Each group as one run: that itself if it is alone, otherwise the medians of the main metric, the
// iterations and what was logged. They are named after their groups, with how many seeds there are.
std::vector<RunResult> medians(RunGroups groups);
MainMetric main_metric(RunGroups groups);

// For the terminal: the groups side by side if they are several, then a row for each seed of those
// with several, and the median, least, most and solved ones below them. Nothing without groups.
std::string report_table(RunGroups groups);
// The medians, with every seed faintly behind them.
std::string report_svg(RunGroups groups);

// summary.csv, a line for each group and length, and summary.json, which has each seed's value too.
std::string summary_csv(RunGroups groups);
std::string summary_json(RunGroups groups);

}  // namespace fprnn
