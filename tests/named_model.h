// Models of the registry by the names and values that --model and its settings have.
#pragma once

#include <fprnn/models/model_settings.h>

#include "context.h"

namespace fprnn::tests {

// The kinds that the device of the tests can run.
inline std::vector<ModelKind> kinds_here(const ModelRegistry& models = built_in_models()) {
  std::vector<ModelKind> kinds = models.all();
  std::erase_if(kinds, [](const ModelKind& kind) { return kind.cpu_only && on_gpu(); });
  return kinds;
}

// Settings of models that are what `values` say and otherwise the registry's.
struct NamedModel {
  ModelSettings model;
  Settings settings;

  explicit NamedModel(const KeyTexts& values, ModelRegistry models = built_in_models())
      : model(std::move(models)) {
    model.add_to(settings);
    settings.set(Preset{"test", "", values});
    settings.check(model.model);
  }
};

inline std::unique_ptr<SequenceModel> named_model(const KeyTexts& values, int64_t vocabulary,
                                                  const Init& init) {
  return NamedModel(values).model.make(vocabulary, init);
}

}  // namespace fprnn::tests
