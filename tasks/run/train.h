// The one training loop, a step at a time.
#pragma once

#include <fprnn/core/graph.h>
#include <fprnn/tasks/report/record.h>
#include <fprnn/tasks/run/conditions.h>
#include <fprnn/tasks/run/solves.h>
#include <fprnn/tasks/run/train_options.h>

#include <functional>
#include <span>

namespace fprnn {

// Streams of the seed besides training_stream: what is evaluated is never trained on.
Rng evaluation_stream(uint64_t seed, int64_t length);
Rng validation_stream(uint64_t seed, int64_t length);
Rng initial_stream(uint64_t seed);

// work(), for so many sequences of a length. MemoryError, naming both and their tokens' bytes:
// there is no room for it, be it for a tensor or for anything else.
void with_shortage_named(std::string_view tag, int64_t sequences, int64_t length,
                         const std::function<void()>& work);

// Trains a model in place. What a step does is a function of the options, the step's number and the
// values of the model and the optimiser, so a training can go on where another one stopped.
class Training {
 public:
  // ValueError: an option out of range, or lanes that the task does not have. UsageError: a
  // curriculum where state is carried. Model and task must outlive it.
  Training(SequenceModel& model, const Task& task, const Context& context,
           const TrainOptions& options);

  // Whether all steps are done.
  bool finished() const { return last_.step >= options_.steps; }
  // The next step. One that AdamW does not take, such as of a loss that is not finite, changes
  // nothing and is counted; Error after ten in a row, naming the first parameter concerned.
  // MemoryError, naming batch and length.
  const StepMetrics& step();
  const StepMetrics& last() const { return last_; }
  // Whether model and optimiser are those after last(), as they are unless a step failed after it
  // had begun to change them.
  bool between_steps() const { return between_steps_; }
  // Whether the last step repeated, as a graph, one that was captured.
  bool recorded() const { return repeated_.graph != nullptr; }

  // Which this training steps.
  AdamW& optimiser() { return optimiser_; }
  // The model's state that the next step goes on from, empty where there is none, as after a step that
  // was to start anew and was not taken; null: the task carries none.
  const SequenceModel::State* carried() const {
    return task_.carries_state() ? &carried_ : nullptr;
  }
  // A state of the shapes that it has after a step, for load_checkpoint.
  SequenceModel::State carried_shapes();
  // Goes on after `steps`, of which `skipped` were, and which took `seconds`.
  void go_on(int64_t steps, int64_t skipped, double seconds, SequenceModel::State carried = {});

 private:
  // What a step computes, until it is read.
  struct Computed {
    Tensor loss;
    std::vector<IntTensor> answers;             // (B, T), of each part
    std::vector<SolveReport> solves, adjoints;  // of the fixed points and of their exact gradients
    std::vector<Tensor> gradients;  // as the parameters; undefined for one that got none
    SequenceModel::State carried;   // to the next step
  };
  // What a recorded step holds on to besides tensors of its own.
  struct Surroundings {
    std::vector<const real*> parameters;
    std::vector<SolverOptions> solvers;
    bool operator==(const Surroundings&) const = default;
  };
  // One batch of a step.
  struct Part {
    Batch batch;
    DrawnConditions drawn;
  };
  // Steps of one shape, as long as no other comes: the memory of their batches and masks and, where
  // there are graphs (core/graph.h), the whole step as it was captured the second time, to be
  // repeated from then on.
  struct Repeated {
    std::vector<Part> parts;
    Computed computed;
    int64_t times = 0;
    Surroundings surroundings;     // of the graph
    std::unique_ptr<Graph> graph;  // goes first
  };

  StepMetrics take_step();
  void prepare(const std::vector<Batch>& batches);
  bool capturable() const;
  void run();
  void record();
  Computed compute();
  void add_part(const Part& part, Computed& computed);
  Surroundings surroundings() const;
  void read(const Computed& computed, const std::vector<Batch>& batches, StepMetrics& metrics);
  void say_in_units(const std::vector<Batch>& batches, StepMetrics& metrics);

  SequenceModel& model_;
  const Task& task_;
  const std::optional<Unit> unit_;
  Context context_, host_;
  TrainOptions options_;
  Schedule schedule_;
  AdamW optimiser_;
  Repeated repeated_;
  SequenceModel::State carried_;
  StepMetrics last_;
  bool between_steps_ = true;
  int skipped_in_a_row_ = 0;
  double tokens_ = 0, units_ = 0, seconds_ = 0;  // of the steps here
};

// All steps; `watch` sees each and stops the run by returning false.
void train(SequenceModel& model, const Task& task, const Context& context,
           const TrainOptions& options, const std::function<bool(const StepMetrics&)>& watch);

}  // namespace fprnn
