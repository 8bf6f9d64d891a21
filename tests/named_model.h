// Models of the registry by the names and values that --model and its settings have.
#pragma once

#include <fprnn/models/model_settings.h>

namespace fprnn::tests {

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
