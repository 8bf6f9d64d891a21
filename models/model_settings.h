// The settings of all models of a registry as one program offers them, and the model that is made
// of their values.
#pragma once

#include <fprnn/models/registry.h>

namespace fprnn {

// How programs solve fixed points, as users say it.
struct SolverSettings {
  std::string solver = "auto", gradient = "one-step";  // by name (solver_named, gradient_named)
  double tolerance = 1e-4;
  int64_t max_iterations = 1000;
};
// Of programs, which report with every step what did not converge. ValueError: a name or number out
// of range.
SolverOptions solver_options(const SolverSettings& settings);

class ModelSettings {
 public:
  explicit ModelSettings(ModelRegistry models = built_in_models());
  ModelSettings(const ModelSettings&) = delete;  // Settings hold addresses
  ModelSettings& operator=(const ModelSettings&) = delete;

  // A kind of the registry, or several, comma-separated: layer i is of kind i mod their number.
  std::string model;  // at first the registry's first
  int64_t d_model = 64, layers = 1;
  SolverSettings solver;

  const ModelRegistry& models() const { return models_; }  // to choose from
  // Those above, those of the solver, and each kind's own; once.
  void add_to(Settings& settings);
  // In order, one at least. ValueError: a name that the registry does not have.
  std::vector<const ModelKind*> chosen() const;
  bool any_has(bool ModelKind::*what) const;  // of those chosen
  // ValueError: a value of the above out of range, or fewer layers than kinds.
  void check() const;

  // After add_to. ValueError: see above and what the layer refuses.
  std::unique_ptr<Layer> make_layer(Module& parent, std::string name, const Init& init,
                                    int64_t index = 0) const;
  std::unique_ptr<SequenceModel> make(int64_t vocabulary, const Init& init) const;

 private:
  ModelRegistry models_;
  std::vector<LayerMaker> makers_;  // of each kind
};

}  // namespace fprnn
