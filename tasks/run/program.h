// What a task executable does, all but the task: read the settings, train, resume, evaluate or
// compare, and report.
#pragma once

#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/options.h>

namespace fprnn {

// A task's part of its program.
class TaskProgram {
 public:
  virtual ~TaskProgram() = default;
  virtual std::string name() const = 0;   // of the executable, hence of the task
  virtual std::string about() const = 0;  // in one line
  virtual std::vector<Preset> presets() const { return {}; }  // that --preset names
  // Of settings of any part, a model's too, where others are better than the library's.
  virtual KeyTexts defaults() const { return {}; }
  // The task's own, which name its problem in eval.json; after settings.title("Task",
  // Decides::model), so that a run is resumed and evaluated with the same ones only.
  virtual void add_to(Settings& settings) = 0;
  // Does what settings of the task's own ask for instead of a run, and says whether they do.
  virtual bool acts() const { return false; }
  // ValueError: a setting out of range.
  virtual std::unique_ptr<Task> task() const = 0;
  // Whether its settings ask for a use of the model that --evaluate names, in place of an evaluation,
  // and that use. It alone then writes to standard output.
  virtual bool has_use() const { return false; }
  virtual void use(SequenceModel& /*model*/, const Context& /*context*/, uint64_t /*seed*/) const {}
};

// The whole program, for the models of a registry; returns the exit code: 0 done, 1 failed, 2
// misused, 130 interrupted.
int run_program(int argc, const char* const* argv, TaskProgram& program,
                ModelRegistry models = built_in_models());

}  // namespace fprnn
