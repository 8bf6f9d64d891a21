// What the runs' models reach at each length, as figures and pictures, each a pure function of the
// runs. Those for the terminal return whole lines, and nothing if nothing was evaluated.
#pragma once

#include <fprnn/tasks/report/axis.h>
#include <fprnn/tasks/report/record.h>

namespace fprnn {

// Those that a report shows.
using Runs = std::span<const RunResult>;

// Lengths downwards, in columns aligned to at most 100 characters, in several tables if they are
// too many for one. Of one run everything that was measured, iterations only if it had any; of
// several the main metric, side by side.
std::string report_table(Runs runs);

// The main metric against length, with a mark for each run: a curve that another one hides still
// shows its marks beside the other's. Shares have 0 to 1, other numbers as much as they need.
// Lengths are spaced by their logarithm if they span more than 8 times.
enum class Glyphs { ascii, unicode };
std::string report_chart(Runs runs, Glyphs glyphs);

// report.svg, which needs no script, font or file besides itself: panels of accuracy, iterations
// and residual against length and of loss, iterations and residual against step, with all runs in
// each; a panel that no run has figures for is left out. Of up to eight runs less than 200 kB
// however many steps were logged.
std::string report_svg(Runs runs);

// Names for people. They come from folders and files, so that anything may stand in them.

// A name for each run: its folder's, or its model's if it has none, without what all of them begin
// with and, if two are alike then, numbered.
std::vector<std::string> run_labels(Runs runs, int64_t most);
// Which of a task's problems it is, by the task's own settings: texts, and numbers with their keys,
// as in "S3" or "mqar, keys 4". Empty without settings.
std::string problem_of(const KeyTexts& settings);

// What the reports have in common.

// The lengths evaluated in any of the runs, ascending, and those that a run was trained at.
std::vector<int64_t> evaluated_lengths(Runs runs);
std::vector<int64_t> trained_lengths(Runs runs);
// A run's results in order of their lengths.
std::vector<LengthResult> results_by_length(const RunResult& run);
// The result of the longest sequences; there must be one.
const LengthResult& longest_of(const Evaluation& evaluation);
// "3 of 64 sequences unconverged", of all lengths together; empty if none is.
std::string unconverged_note(const RunResult& run);
// "evaluated with max iterations 4", where a run's model was run otherwise than it was trained.
std::string changes_note(const RunResult& run);
// The first four of them, with `more` after these if there are others.
std::string listed(const std::vector<int64_t>& lengths, std::string_view more);
// An axis over lengths, logarithmic if they span more than 8 times.
Axis length_axis(std::span<const double> lengths);
// With its end, and without spaces before it.
std::string line_of(const std::string& text);
// Whether the model solved fixed points.
bool has_iterations(const RunResult& run);
// Of a result's metric, where it is the main one and has an interval; and whether a run has any.
Interval interval_of(const LengthResult& result, std::string_view metric);
bool has_intervals(const RunResult& run);
// In thousandths, ".888-.978", or as share_text of table.h has it; empty if there is none.
std::string range_text(const Interval& interval);
// How many characters all of the names, one at least, have in common at their beginning, up to the end of a word.
size_t common_beginning(const std::vector<std::string>& names);

// The metric that charts and comparisons show: the first of the first run that has any, and its
// name in words.
struct MainMetric {
  std::string name, caption;  // its key in eval.json, and for people
  bool is_share = true;       // in [0, 1] in all runs
  Axis axis = {};             // 0 to 1, or over all numbers that are no shares
};
MainMetric main_metric(Runs runs);

}  // namespace fprnn
