#include <fprnn/core/vector.h>
#include <fprnn/tasks/run/solves.h>

#include <algorithm>

namespace fprnn {

std::vector<ImplicitLayer*> fixed_points(const SequenceModel& model) {
  std::vector<ImplicitLayer*> found;
  for (Layer* layer : model.layers())
    if (auto* fixed_point = dynamic_cast<ImplicitLayer*>(layer)) found.push_back(fixed_point);
  return found;
}

std::vector<SolveReport> solves_of(const SequenceModel& model) {
  std::vector<SolveReport> reports;
  for (const Layer* layer : model.layers())
    if (const SolveReport report = layer->solve_report(); report.residual.defined())
      reports.push_back(report);
  return reports;
}

std::vector<SolveReport> adjoints_of(const SequenceModel& model) {
  std::vector<SolveReport> reports;
  for (const ImplicitLayer* layer : fixed_points(model))
    reports.push_back(layer->adjoint_solve_report());
  return reports;
}

NamedValues iterations_by_layer(const SequenceModel& model, std::span<const SolveReport> reports) {
  NamedValues layers;
  const std::vector<Layer*> all = model.layers();
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i]->solve_report().residual.defined()) layers.emplace_back(std::to_string(i), 0);
  const double calls = static_cast<double>(reports.size()) / static_cast<double>(layers.size());
  for (size_t i = 0; i < reports.size(); ++i)
    layers[i % layers.size()].second += reports[i].read().mean_iterations() / calls;
  if (layers.size() > kMostNames) layers.resize(kMostNames);
  return layers;
}

Solves read_solves(std::span<const SolveReport> reports) {
  Solves solves;
  int layers = 0;
  for (const SolveReport& each : reports) {
    const FixedPointReport report = each.read();
    ++layers;
    solves.iterations_mean += (report.mean_iterations() - solves.iterations_mean) / layers;
    solves.iterations_max = std::max(solves.iterations_max, report.max_iterations());
    solves.residual_max = larger_or_nan<double>(report.max_residual(), solves.residual_max);
    solves.unconverged += report.unconverged();
  }
  return solves;
}

Solves last_solves(const SequenceModel& model) { return read_solves(solves_of(model)); }

void forget_solves(const SequenceModel& model) {
  for (ImplicitLayer* layer : fixed_points(model)) layer->memory = {};
}

}  // namespace fprnn
