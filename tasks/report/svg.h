// report.svg: the runs in one picture, which needs no script, font or file besides itself.
#pragma once

#include <fprnn/tasks/report/record.h>

#include <span>

namespace fprnn {

// Panels of accuracy, iterations and residual against length and of loss, iterations and residual
// against step, with all runs in each; a panel that no run has figures for is left out. A pure
// function of the runs; of up to eight, less than 200 kB however many steps were logged.
std::string report_svg(std::span<const RunRecord> runs);

}  // namespace fprnn
