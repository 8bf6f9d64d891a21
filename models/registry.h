// Models by name: what --model can say. A registry is a value. A program starts from
// built_in_models(), adds its own, and hands the registry to what it runs:
//   ModelRegistry models = built_in_models();
//   models.add(my_layer_kind());
// A kind of model is a kind of layer: a stack repeats one, or several in turn.
#pragma once

#include <fprnn/core/settings.h>
#include <fprnn/models/fixed_point_layer.h>
#include <fprnn/models/sequence_model.h>

namespace fprnn {

// What a layer is told beside its own settings.
struct LayerPlace {
  int64_t index = 0;  // in the stack, from the embedding up
  int64_t layers = 1;
  int64_t d_model = 64;
  SolverOptions solver = {};  // for a layer with fixed points
};

// ValueError: a setting out of range.
using LayerMaker = std::function<std::unique_ptr<Layer>(Module& parent, std::string name,
                                                        const Init& init, const LayerPlace& place)>;

// A kind of model: its name, its settings, and what its layers can do.
struct ModelKind {
  std::string name, about;  // the second in one line
  // Adds the kind's own settings, and returns what makes a layer of the values that they have when
  // it is called, and of its place. The maker keeps the variables of the settings alive.
  std::function<LayerMaker(Settings& settings)> declare;
  // What it has.
  bool solver = false;    // fixed points: the settings of the solver and iteration_cap are its too
  bool states = false;    // states of a scan that training may drop: state_dropout
  bool cpu_only = false;  // whether one of its ops is (kCpuOnly)
  bool caches = false;    // its past: a state that grows with the length
};

class ModelRegistry {
 public:
  // ValueError: the name is empty, contains a comma or is there already; nothing is declared.
  void add(ModelKind kind);
  const ModelKind& at(std::string_view name) const;              // ValueError: there is none
  const std::vector<ModelKind>& all() const& { return kinds_; }  // as they were added
  std::vector<ModelKind> all() && { return std::move(kinds_); }
  std::vector<std::string> names() const;

 private:
  std::vector<ModelKind> kinds_;
};

// The models of the library.
ModelRegistry built_in_models();

}  // namespace fprnn
