#include <fprnn/core/text.h>
#include <fprnn/models/model_settings.h>

#include <algorithm>

namespace fprnn {

SolverOptions solver_options(const SolverSettings& s) {
  return {.solver = solver_named(s.solver),
          .tolerance = static_cast<real>(s.tolerance),
          .max_iterations = s.max_iterations,
          .gradient = gradient_named(s.gradient),
          .unconverged = Unconverged::accept};
}

namespace {

void add_solver(Settings& settings, SolverSettings& s) {
  settings.add(
      "solver", s.solver,
      "How fixed points are found; auto: parallel where that is known to be faster, never in "
      "training or on the CPU, else sequential",
      {"auto", "sequential", "parallel", "patience"});
  settings.add("gradient", s.gradient, "one-step, neumann:K or exact");
  settings.add("tolerance", s.tolerance, "Residual that a solve aims at").refusal = [&s] {
    return s.solver == "patience" ? "patience has no tolerance" : "";
  };
  settings.add("max_iterations", s.max_iterations,
               "Cap: parallel and patience of a solve, sequential of each step");
}

}  // namespace

ModelSettings::ModelSettings(ModelRegistry models) : models_(std::move(models)) {
  require<ValueError>(!models_.all().empty(), "models", "there must be models");
  model = models_.all().front().name;
}

void ModelSettings::add_to(Settings& settings) {
  settings.title("Model", Decides::model);
  Setting& kinds = settings.add(
      "model", model, "Kind of layer, or several in turn, comma-separated", models_.names());
  kinds.several = true;
  settings.add("d_model", d_model, "Width of the residual stream");
  settings.add("layers", layers, "Layers");
  for (const ModelKind& kind : models_.all()) {
    settings.title("Model " + kind.name, Decides::model, [this, name = kind.name] {
      return std::ranges::any_of(chosen(),
                                 [&](const ModelKind* each) { return each->name == name; });
    });
    makers_.push_back(kind.declare(settings));
  }
  settings.title("Solver", Decides::solver, [this] { return any_has(&ModelKind::solver); });
  add_solver(settings, solver);
}

std::vector<const ModelKind*> ModelSettings::chosen() const {
  std::vector<const ModelKind*> kinds;
  for (const std::string& name : split(model, ',')) kinds.push_back(&models_.at(name));
  return kinds;
}

bool ModelSettings::any_has(bool ModelKind::*what) const {
  return std::ranges::any_of(chosen(), [&](const ModelKind* kind) { return kind->*what; });
}

void ModelSettings::check() const {
  fprnn::check(solver_options(solver));
  const auto kinds = static_cast<int64_t>(chosen().size());
  require<ValueError>(kinds == 1 || layers >= kinds, "models",
                      "there must be a layer for each kind: layers and kinds", layers, model);
}

std::unique_ptr<Layer> ModelSettings::make_layer(Module& parent, std::string name, const Init& init,
                                                 int64_t index) const {
  require<UsageError>(!makers_.empty(), "models", "settings must be added before layers are made");
  const std::vector<const ModelKind*> kinds = chosen();
  const ModelKind* kind = kinds[index % std::ssize(kinds)];
  const LayerMaker& make = makers_[kind - models_.all().data()];
  return make(
      parent, std::move(name), init,
      {.index = index, .layers = layers, .d_model = d_model, .solver = solver_options(solver)});
}

std::unique_ptr<SequenceModel> ModelSettings::make(int64_t vocabulary, const Init& init) const {
  const auto make_next = [this, index = int64_t{0}](Module& parent, std::string name,
                                                    const Init& at) mutable {
    return make_layer(parent, std::move(name), at, index++);
  };
  return std::make_unique<SequenceModel>(
      init,
      SequenceModelOptions{
          .vocabulary = vocabulary, .d_model = d_model, .layers = layers, .make_layer = make_next});
}

}  // namespace fprnn
