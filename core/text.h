// Text that people will see. It may come from files and names, so that anything may stand in it.
#pragma once

#include <string>
#include <string_view>

namespace fprnn {

// Valid UTF-8 of one line without control or direction characters; a '?' stands for each of those.
std::string printable(std::string_view text);
// The same of several lines, which keep their ends.
std::string printable_lines(std::string_view text);
// The same in one line: \n stands for each end of a line.
std::string printable_line(std::string_view text);

}  // namespace fprnn
