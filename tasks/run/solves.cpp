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

void SolveTally::Counts::add(const FixedPointReport& report) {
  for (const int64_t iterations : report.iterations) ++times[iterations];
  all += std::ssize(report.iterations);
  unconverged += report.unconverged();
  residual_max = larger_or_nan<double>(report.max_residual(), residual_max);
}

int64_t SolveTally::Counts::at(int64_t place) const {
  int64_t before = 0;
  for (const auto& [iterations, count] : times)
    if ((before += count) > place) return iterations;
  return 0;
}

double SolveTally::Counts::mean() const {
  double sum = 0;
  for (const auto& [iterations, count] : times)
    sum += static_cast<double>(iterations) * static_cast<double>(count);
  return all == 0 ? 0 : sum / static_cast<double>(all);
}

double SolveTally::Counts::median() const {
  return static_cast<double>(at((all - 1) / 2) + at(all / 2)) / 2;
}

void SolveTally::add(std::span<const SolveReport> reports, size_t calls) {
  layers_.resize(std::max(layers_.size(), reports.size() / calls));
  for (size_t i = 0; i < reports.size(); ++i) layers_[i % layers_.size()].add(reports[i].read());
}

Solves SolveTally::total() const {
  Solves solves;
  for (const Counts& layer : layers_) {
    solves.iterations_mean += layer.mean() / static_cast<double>(layers_.size());
    solves.iterations_max = std::max(solves.iterations_max, layer.max());
    solves.residual_max = larger_or_nan(layer.residual_max, solves.residual_max);
    solves.unconverged += layer.unconverged;
  }
  return solves;
}

LayerSolves SolveTally::by_layer(const SequenceModel& model) const {
  LayerSolves solves;
  const std::vector<Layer*> all = model.layers();
  auto layer = layers_.begin();
  for (size_t i = 0; i < all.size() && layer != layers_.end(); ++i) {
    if (!all[i]->solve_report().residual.defined()) continue;
    const std::string name = std::to_string(i);
    solves.mean.emplace_back(name, layer->mean());
    solves.median.emplace_back(name, layer->median());
    solves.max.emplace_back(name, static_cast<double>(layer->max()));
    solves.unconverged.emplace_back(name, static_cast<double>(layer->unconverged));
    if (solves.mean.size() == kMostNames) break;
    ++layer;
  }
  return solves;
}

Solves last_solves(const SequenceModel& model) {
  SolveTally tally;
  tally.add(solves_of(model));
  return tally.total();
}

void forget_solves(const SequenceModel& model) {
  for (ImplicitLayer* layer : fixed_points(model)) layer->memory = {};
}

}  // namespace fprnn
