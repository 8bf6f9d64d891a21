// How the fixed points of a model were solved, over all of its layers.
#pragma once

#include <fprnn/models/implicit_layer.h>
#include <fprnn/models/sequence_model.h>
#include <fprnn/tasks/report/record.h>

#include <span>

namespace fprnn {

// The layers that are solved, from the embedding up.
std::vector<ImplicitLayer*> fixed_points(const SequenceModel& model);

// The last solves of a model's layers (Layer::solve_report), those that have any, and of their exact
// gradients.
std::vector<SolveReport> solves_of(const SequenceModel& model);
std::vector<SolveReport> adjoints_of(const SequenceModel& model);

struct Solves {
  double iterations_mean = 0;
  int64_t iterations_max = 0;
  double residual_max = 0;
  int64_t unconverged = 0;
};
// The mean iterations of each layer of solves_of by its number, over the reports of one or several
// calls; of so many layers as a record takes names. Waits until they are computed.
NamedValues iterations_by_layer(const SequenceModel& model, std::span<const SolveReport> reports);
// Waits too.
Solves read_solves(std::span<const SolveReport> reports);
Solves last_solves(const SequenceModel& model);

// Lets the automatic solver start anew, so that what follows does not depend on what was solved
// before.
void forget_solves(const SequenceModel& model);

}  // namespace fprnn
