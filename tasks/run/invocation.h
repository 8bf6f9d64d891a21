// What a task executable does with one run: train it, go on with it, evaluate it.
#pragma once

#include <fprnn/models/checkpoint.h>
#include <fprnn/tasks/run/best.h>
#include <fprnn/tasks/run/goals.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/program.h>

namespace fprnn {

// The weights that a run ends with, its best or its last checkpoint, or the checkpoint itself.
// UsageError: a run has none yet, or the path is a folder of seeds.
std::string checkpoint_of(const std::string& path);
// The seeds of a folder that have one, or else the path itself. UsageError: the folder's have none.
std::vector<std::string> runs_of(const std::string& path);
// A folder of runs/ that is named by the time.
std::string run_by_time();

// One invocation, with everything that its settings say.
class Invocation {
 public:
  // own: the settings of the task. All but these and the goals must outlive it.
  Invocation(const TaskProgram& program, KeyTexts own, Goals goals, const Settings& settings,
             const Options& options)
      : program_(program),
        own_(std::move(own)),
        goals_(std::move(goals)),
        settings_(settings),
        options_(options) {}

  // Makes context, task and model, and says on which device. Whatever is refused is refused here,
  // before anything is written.
  void open();
  void evaluate_alone();
  void use_model();      // that --evaluate names (TaskProgram::use)
  void predict_lines();  // of standard input
  void train();          // Error: once all is written, that a goal is missed

  const Context& context() const { return *context_; }  // once it is open

 private:
  void say(const std::string& line) const;
  Origin origin(uint64_t seed) const;
  CheckpointState load(const std::string& checkpoint);
  CheckpointState load_run(const std::string& run);  // says what it was
  Evaluation evaluation(const StepMetrics& trained, uint64_t seed);
  RunResult evaluated(const std::string& run, uint64_t seed);
  void evaluate_seeds(const std::vector<uint64_t>& seeds);
  // Of the best weights, if there are any, which the model then has.
  Evaluation final_evaluation(const StepMetrics& last, const std::string& run);
  void resume(Training& training, RunDirectory& run);
  void train_on(Training& training, RunDirectory& run);
  void train_until_due(Training& training, RunDirectory& run, Progress& progress, double limit);
  void save(Training& training, const RunDirectory& run);
  void save_best(Training& training, const RunDirectory& run);
  CheckpointState state_of(const Training& training) const;
  // Whether the weights after the last step are a candidate for the best.
  bool is_candidate(const Training& training) const;
  bool is_due(int64_t every, int64_t step) const { return every > 0 && step % every == 0; }

  const TaskProgram& program_;
  const KeyTexts own_;
  const Goals goals_;
  const Settings& settings_;
  const Options& options_;
  std::unique_ptr<Task> task_;
  std::string caption_;  // of its main metric
  std::string data_;     // Task::data, to train on
  std::unique_ptr<SequenceModel> model_;
  std::optional<Context> context_;
  int64_t saved_ = -1;        // the step of the last checkpoint
  std::optional<Best> best_;  // so far
};

}  // namespace fprnn
