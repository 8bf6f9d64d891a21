// Where names stand beside the marks of a plot.
#pragma once

#include <fprnn/tasks/report/plot.h>

#include <span>

namespace fprnn {

// Of a name, in pixels, downwards.
struct NamePlace {
  double x = 0, y = 0;            // the left end of its line of text
  double mark_x = 0, mark_y = 0;  // the mark that it names
};

inline constexpr double kNameHeight = 12;  // of a name's line, above y
// Of a name's line, in pixels, estimated from its number of characters.
double name_width(const std::string& name);

// For each mark a place beside it, or as near as there is room, where its name hides no mark and no
// other name and stays within the box; beside its mark where there is no such place. At places[i] are
// x and y of the i-th mark already as mark_x and mark_y.
void place_names(std::span<NamePlace> places, std::span<const std::string> names,
                 const Box& within);

}  // namespace fprnn
