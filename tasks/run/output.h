// What a program says: on standard output, which it needs, and on standard error, which it does
// not. Control characters in it, as names of files may have, appear as '?'.
#pragma once

#include <fprnn/core/check.h>
#include <fprnn/tasks/report/run_groups.h>

namespace fprnn {

struct OutputError : FileError {
  using FileError::FileError;
};  // what was printed does not reach its reader

// Opens /dev/null for standard input, output and error where they are closed; the next file that is
// opened would take their place. A reader that goes away is an error from now on, not a signal.
void open_standard_streams();

// Lines, which are with the system when it returns. OutputError: these or earlier ones were lost.
void print(std::string_view lines);

// Bytes as they are; the rest as above.
void print_bytes(std::string_view bytes);

// Table and chart. OutputError.
void print_report(Runs runs);
void print_report(RunGroups groups);

// One line on standard error, if that can be written.
void print_error(std::string_view line) noexcept;

// What a training run says while it works: on a terminal one line that is rewritten, otherwise and
// on a dumb terminal a plain line every few seconds. OutputError.
class Progress {
 public:
  // Of a run of `steps`, `done` of which were made before.
  Progress(int64_t steps, int64_t done);
  void show(const StepMetrics& metrics);
  void end();  // leaves the live line, before anything else is printed

 private:
  int64_t steps_, done_;
  bool live_, pending_ = false;
  double next_ = 0, before_ = -1;  // seconds of training
};

}  // namespace fprnn
