#include <fprnn/models/saved_model.h>

#include <algorithm>

namespace fprnn {

namespace {

// Those that settings of a model know.
Configuration of_model(Configuration configuration, const std::vector<std::string>& keys) {
  std::erase_if(configuration, [&](const auto& entry) {
    return std::ranges::find(keys, entry.first) == keys.end();
  });
  return configuration;
}

}  // namespace

std::unique_ptr<SequenceModel> load_model(const std::string& checkpoint, const Context& context,
                                          ModelRegistry models) {
  ModelSettings model(std::move(models));
  Settings settings;
  model.add_to(settings);
  const Configuration saved = read_checkpoint_state(checkpoint).configuration;
  settings.set(of_model(saved, settings.keys()), checkpoint);
  settings.check(model.model);
  model.check();
  const Shape embedding = saved_shape(checkpoint, "embedding.weight");  // (V, d)
  require<FormatError>(embedding.rank() == 2, "checkpoint",
                       "an embedding must have two axes: checkpoint and shape", checkpoint,
                       embedding);
  Rng rng;
  auto made = model.make(embedding[0], {context, rng});
  // A setting that the checkpoint leaves out would have been another model's default.
  Configuration expected = saved;
  for (const auto& [key, value] : settings.values({Decides::model})) expected[key] = value;
  load_checkpoint(checkpoint, *made, nullptr, &expected);
  return made;
}

}  // namespace fprnn
