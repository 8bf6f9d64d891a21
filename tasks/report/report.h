// A report for the terminal: what the runs' models reach at each length, as figures and as a
// picture. Both return whole lines, and nothing if nothing was evaluated.
#pragma once

#include <fprnn/tasks/report/record.h>

#include <span>

namespace fprnn {

enum class Glyphs { ascii, unicode };

// Lengths downwards, in columns aligned to at most 100 characters, in several tables if they are
// too many for one. Of one run everything that was measured, iterations only if it had any; of
// several the main metric, side by side.
std::string report_table(std::span<const RunRecord> runs);

// The main metric against length, with a mark for each run: a curve that another one hides still
// shows its marks beside the other's. Shares have 0 to 1, other numbers as much as they need.
// Lengths are spaced by their logarithm if they span more than 8 times.
std::string report_chart(std::span<const RunRecord> runs, Glyphs glyphs);

// The lengths evaluated in any of the runs, ascending, and those that a run was trained at.
std::vector<int64_t> evaluated_lengths(std::span<const RunRecord> runs);
std::vector<int64_t> trained_lengths(std::span<const RunRecord> runs);
// Whether the model solved fixed points.
bool has_iterations(const RunRecord& run);

// The metric that charts and comparisons show: the first of the first run that has any, and its
// name in words.
struct MainMetric {
  std::string name, caption;
  bool is_share = true;  // in [0, 1] in all runs
};
MainMetric main_metric(std::span<const RunRecord> runs);

}  // namespace fprnn
