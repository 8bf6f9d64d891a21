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

// A share with so many digits behind the point, or with as many more as it needs where these would
// show a 0 or 1 that it is not: .99951 with three is "0.9995". What is nearer than 1e-9 is the rounding of
// sums, and shown as a 0 or 1.
std::string share_text(double value, int digits);
// With four digits at least; "-" for what is not finite.
std::string fraction(double value);

}  // namespace fprnn
