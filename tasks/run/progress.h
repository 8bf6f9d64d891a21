// What a training run says while it works: on a terminal one line that is rewritten, otherwise and
// on a dumb terminal a plain line every few seconds. OutputError (tasks/run/output.h).
#pragma once

#include <fprnn/tasks/report/record.h>

namespace fprnn {

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
