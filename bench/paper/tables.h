// Tables of the runs in Markdown, each a pure function of runs and rows.
#pragma once

#include "selection.h"

namespace fprnn::paper {

// The table, then what it was made of: command, days, commits and machines; then what is lacking.
std::string table_of(const Query& query, const std::vector<Row>& rows,
                     const std::vector<Run>& runs);

// A share as ".998", "1" or ".9998" (share_text), another number with four digits; "-" for what is no number.
std::string cell_text(double value, bool is_share);

}  // namespace fprnn::paper
