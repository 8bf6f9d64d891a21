// A report for the terminal: what the runs' models reach at each length, as figures and as a
// picture. Both return whole lines, and nothing if nothing was evaluated.
#pragma once

#include <fprnn/tasks/record.h>

#include <span>

namespace fprnn {

enum class Glyphs { ascii, unicode };

// Lengths downwards, in columns aligned to at most 100 characters. Of one run everything that was
// measured, iterations only if it had any; of several the whole sequences right, side by side.
std::string report_table(std::span<const RunRecord> runs);

// Whole sequences right against length, 0 to 1, with a mark for each run: a curve that another one
// hides still shows its marks beside the other's. Lengths are spaced by their logarithm if they
// span more than 8 times.
std::string report_chart(std::span<const RunRecord> runs, Glyphs glyphs);

// The lengths evaluated in any of the runs, ascending, and those that a run was trained at.
std::vector<int64_t> evaluated_lengths(std::span<const RunRecord> runs);
std::vector<int64_t> trained_lengths(std::span<const RunRecord> runs);
// Whether the model solved fixed points.
bool has_iterations(const RunRecord& run);

}  // namespace fprnn
