// Charts of the runs as SVG, each a pure function of runs and rows.
#pragma once

#include "selection.h"

namespace fprnn::paper {

// The main metric and the iterations against the length, a curve for each entry, its seeds faintly
// behind it; or, where the query has x and y, what is measured against something else: a point for
// each entry, the medians of its seeds with the whole of their spread, and a line through mamba-1,
// mamba-4 and the like, or with show=names no line. Empty without runs.
std::string chart_of(const Query& query, const std::vector<Row>& rows,
                     const std::vector<Run>& runs);

}  // namespace fprnn::paper
