// Whether a model does two things that no other model does, as far as the runs say it.
#pragma once

#include "selection.h"

namespace fprnn::paper {

// The words of a marker:
//   by=MODEL but=MODELS least=SHARE and WORD.. and WORD..
// MODEL has `least` or more in both of what the words select (selection.h), and no other model does but
// those named. Each part has a metric, a length and a title, which heads its column. What the star of its
// pattern stands for is the same thing in both: labels=A5-* and none let A5-lstm and lstm belong together.
struct Both {
  Query first, second;
  std::string by;
  std::vector<std::string> but = {};
  double least = 0;  // of the median of all seeds, a diverged one having 0
};
// FormatError: other words, or a part without one of its own.
Both both_of(const std::vector<std::string>& words);

// A table of what has runs, whether it was shown, refuted or is open and for lack of what; then what the
// runs are. Without runs what is lacking.
std::string both_text(const Both& both, const std::vector<Row>& rows, const std::vector<Run>& runs);

}  // namespace fprnn::paper
