// Which weights a run with --keep best ends with: those of its least validation loss so far. They are
// the checkpoint RUN/best; every loss stands in metrics.jsonl, beside its step.
#pragma once

#include <fprnn/tasks/run/run_directory.h>

#include <limits>

namespace fprnn {

std::string best_checkpoint(const std::string& run);  // its folder
// Whether the run has that checkpoint.
bool has_best(const std::string& run);

struct Best {
  int64_t step = 0;
  double validation_loss = 0;  // in nats, as Task::validation says
};
// Takes the step's loss if it has one that is finite and less than the least; whether it did.
bool improve(std::optional<Best>& best, const StepMetrics& metrics);
// Of the steps to the last one that the run's metrics.jsonl has, the first where several are least.
constexpr int64_t kAllSteps = std::numeric_limits<int64_t>::max();
std::optional<Best> logged_best(const std::string& run, int64_t last = kAllSteps);
// What eval.json says of it (Evaluation::kept).
NamedValues kept(const Best& best);

}  // namespace fprnn
