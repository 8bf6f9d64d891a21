// How the fixed points of a model were solved, over all of its layers.
#pragma once

#include <fprnn/models/implicit_layer.h>
#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/report/record.h>

#include <map>
#include <span>

namespace fprnn {

// The layers that are solved, from the embedding up.
std::vector<ImplicitLayer*> fixed_points(const SequenceModel& model);

// The last solves of a model's layers (Layer::solve_report), those that have any, and of their exact
// gradients.
std::vector<SolveReport> solves_of(const SequenceModel& model);
std::vector<SolveReport> adjoints_of(const SequenceModel& model);

struct Solves {
  double iterations_mean = 0;  // of the layers' means
  int64_t iterations_max = 0;
  double residual_max = 0;
  int64_t unconverged = 0;
};

// What any number of calls of a model report, each read once and counted.
class SolveTally {
 public:
  // Of calls, one after the other, each with as many reports. Waits until they are computed.
  void add(std::span<const SolveReport> reports, size_t calls = 1);
  Solves total() const;
  // Where the reports are those of solves_of.
  LayerSolves by_layer(const SequenceModel& model) const;
  // Both, where a record has them. Record: StepMetrics or LengthResult.
  template <class Record>
  void write_to(Record& record, const SequenceModel& model) const {
    const Solves all = total();
    record.iterations_mean = all.iterations_mean;
    record.iterations_max = all.iterations_max;
    record.residual_max = all.residual_max;
    record.unconverged = all.unconverged;
    record.layers = by_layer(model);
  }

 private:
  struct Counts {                      // of a layer
    std::map<int64_t, int64_t> times;  // how often a number of iterations came
    int64_t all = 0, unconverged = 0;
    double residual_max = 0;

    void add(const FixedPointReport& report);
    int64_t at(int64_t place) const;  // of all in order
    double mean() const;
    double median() const;
    int64_t max() const { return times.empty() ? 0 : times.rbegin()->first; }
  };
  std::vector<Counts> layers_;
};

// Of solves_of the model.
Solves last_solves(const SequenceModel& model);

// Lets the automatic solver start anew, so that what follows does not depend on what was solved
// before.
void forget_solves(const SequenceModel& model);

}  // namespace fprnn
