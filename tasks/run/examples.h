// A task's examples for people and programs: what a model is trained on, and what it answers. Each is a line of
// JSON, its text the names of the tokens (Task::name_of) between spaces.
#pragma once

#include <fprnn/tasks/run/train.h>

namespace fprnn {

// {"step", "batch", "row", "text", "ids", "targets", "mask"}: the first rows of a training with these options, in
// its order; the first step is 1, the first batch of a step and the first row 0. Each is handed to `take`.
void dump_examples(const Task& task, const TrainOptions& options, int64_t examples,
                   const std::function<void(const std::string& line)>& take);

}  // namespace fprnn
