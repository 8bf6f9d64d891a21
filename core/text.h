// Text shown to people. It may come from files and names, so it can contain anything.
#pragma once

#include <string>
#include <string_view>

namespace fprnn {

// The text as one line of valid UTF-8, with a '?' for each control or direction character.
std::string printable(std::string_view text);
// The same for several lines, which keep their ends.
std::string printable_lines(std::string_view text);
// The same as one line, with \n for each end of a line.
std::string printable_line(std::string_view text);

}  // namespace fprnn
