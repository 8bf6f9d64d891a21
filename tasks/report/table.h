// Columns of text for a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fprnn {

// A column of a table.
struct Column {
  std::string head;                     // its first line
  std::vector<std::string> cells = {};  // as many as in the others

  int64_t width() const;  // of its longest cell or head, in characters
};

// The columns under their heads, right-aligned, in as many tables as they need to keep to 100
// characters; the first is in each.
std::string tables(const std::vector<Column>& columns);

// With four digits; "-" for what is not finite.
std::string fraction(double value);

}  // namespace fprnn
