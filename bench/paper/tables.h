// Tables of the runs in Markdown, each a pure function of runs and rows.
#pragma once

#include "selection.h"

namespace fprnn::paper {

// The table, then what it was made of: command, days, commits and machines; then what is lacking.
std::string table_of(const Query& query, const std::vector<Row>& rows,
                     const std::vector<Run>& runs);

// What each seed has at a length (value_at): the median, and all of them where there are several;
// "failed" of a diverged one.
std::string values_text(const Group& group, const std::string& metric, int64_t length,
                        bool is_share);

// A share as ".998", "1" or ".9998" (share_text), another number with four digits; "-" for what is no number.
std::string cell_text(double value, bool is_share);

}  // namespace fprnn::paper
