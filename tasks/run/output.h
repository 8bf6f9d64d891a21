// What a program says: on standard output, which it needs, and on standard error, which it does
// not. Control characters in it, as names of files may have, appear as '?'.
#pragma once

#include <fprnn/core/check.h>

namespace fprnn {

struct OutputError : FileError {
  using FileError::FileError;
};  // what was printed does not reach its reader

// Opens /dev/null for standard input, output and error where they are closed; the next file that is
// opened would take their place. A reader that goes away is an error from now on, not a signal.
void open_standard_streams();

// Lines, which are with the system when it returns. OutputError: these or earlier ones were lost.
void print(std::string_view lines);

// Whether standard output is a terminal where a line can be rewritten.
bool has_live_line();
// A line that the next one replaces; print("\n") leaves it. OutputError.
void print_live(std::string_view line);

// One line on standard error, if that can be written.
void print_error(std::string_view line) noexcept;

}  // namespace fprnn
