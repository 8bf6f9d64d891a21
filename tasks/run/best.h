// Which weights a run with --keep best ends with: those of its least validation loss so far. They are
// the checkpoint RUN/best; every loss stands in metrics.jsonl, beside its step.
#pragma once

#include <fprnn/tasks/run/run_directory.h>

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
// Of all steps that metrics.jsonl has, the first where several are least.
std::optional<Best> logged_best(const RunDirectory& run);

}  // namespace fprnn
