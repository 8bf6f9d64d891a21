// Models that their checkpoints alone give back.
#include <doctest/doctest.h>
#include <fprnn/models/saved_model.h>
#include <fprnn/ops/layout.h>

#include "named_model.h"
#include "refused.h"
#include "small_checkpoint.h"

namespace fprnn::tests {

namespace {

constexpr int64_t kVocabulary = 7;
const KeyTexts kSmall = {{"layers", "2"}, {"d_model", "8"}, {"d_state", "4"}, {"headdim", "4"}};

// What a run saves of its settings, a task's and a training's among them.
Configuration configuration_of(const NamedModel& named) {
  Configuration all = named.settings.values({Decides::model, Decides::solver});
  all.insert({{"group", "\"S3\""}, {"steps", "300"}});
  return all;
}

void save(const std::string& folder, SequenceModel& model, const Configuration& configuration) {
  save_checkpoint(folder, model, AdamW(model.parameters(), {}), {.configuration = configuration});
}

// A scrambled model in a checkpoint, whose configuration is changed first.
template <class Change>
std::string saved_with(const Folder& folder, const KeyTexts& values, const Change& change) {
  NamedModel named(values);
  Rng rng{.seed = 3};
  const auto model = named.model.make(kVocabulary, {test_context(), rng});
  Configuration configuration = configuration_of(named);
  change(configuration);
  save(folder.file("c"), *model, configuration);
  return folder.file("c");
}

std::vector<real> logits_of(SequenceModel& model, const Context& context) {
  NoGrad tape(context);
  const IntTensor tokens(context, {2, 4}, std::vector<int32_t>{1, 2, 6, 0, 4, 3, 5, 5});
  return model.forward(tape, tokens).value().to_vector();
}

// And a model whose mixer is one that no other has.
ModelRegistry with_unmixed() {
  ModelRegistry models = built_in_models();
  models.add({.name = "unmixed", .about = "", .declare = [](Settings& settings) -> LayerMaker {
                const auto mixer = std::make_shared<std::string>("none");
                settings.add("mixer", *mixer, "", {"none"});
                return [mixer](const auto&...) { return std::unique_ptr<Layer>(); };
              }});
  return models;
}

}  // namespace

TEST_CASE("saved model: every model and a stack of several computes what it did, to the bit") {
  const Context context = test_context();
  std::vector<std::string> stacks;
  for (const ModelKind& kind : kinds_here()) stacks.push_back(kind.name);
  stacks.push_back("lstm,fp-mamba");
  for (const std::string& stack : stacks) {
    INFO(stack);
    KeyTexts values = kSmall;
    values.insert(values.end(), {{"model", stack}, {"mixer_scale", "0.5"}, {"tolerance", "1e-3"}});
    NamedModel named(values);
    Rng rng{.seed = 3};
    const auto model = named.model.make(kVocabulary, {context, rng});
    scramble(*model);
    const Folder folder;
    save(folder.file("c"), *model, configuration_of(named));
    const auto loaded = load_model(folder.file("c"), context);
    CHECK(same_bits(values_of(*loaded), values_of(*model)));
    CHECK(same_bits(logits_of(*loaded, context), logits_of(*model, context)));
  }
}

TEST_CASE("saved model: a model of one's own comes back from the registry that has it") {
  const Context context = test_context();
  ModelKind own = built_in_models().at("mamba");
  own.name = "own";
  ModelRegistry models = built_in_models();
  models.add(own);
  NamedModel named({{"model", "own"}, {"d_model", "8"}}, models);
  Rng rng{.seed = 3};
  const auto model = named.model.make(kVocabulary, {context, rng});
  const Folder folder;
  save(folder.file("c"), *model, configuration_of(named));
  CHECK(same_bits(values_of(*load_model(folder.file("c"), context, models)), values_of(*model)));
  check_refused<UsageError>("own", [&] { load_model(folder.file("c"), context); });
}

TEST_CASE("saved model: a configuration that does not say which model it is is refused") {
  const Context context = test_context();
  const KeyTexts values = {{"model", "fp-mamba"}, {"d_model", "8"}};
  for (const char* key : {"model", "d_model", "layers", "mixer_scale"}) {
    const Folder folder;
    const std::string c = saved_with(folder, values, [&](Configuration& all) { all.erase(key); });
    check_refused<ValueError>(std::string(key) + " (absent there", [&] { load_model(c, context); });
  }
  const std::vector<std::array<std::string, 3>> wrong = {{"model", "\"mmaba\"", "did you mean"},
                                                         {"d_model", "\"wide\"", "a whole number"},
                                                         {"mixer", "\"none\"", "mixer must be"}};
  for (const auto& [key, value, message] : wrong) {
    const Folder folder;
    const std::string c =
        saved_with(folder, values, [&, at = key, to = value](Configuration& all) { all[at] = to; });
    check_refused<UsageError>(message, [&] { load_model(c, context); });
    check_refused<UsageError>(message, [&] { load_model(c, context, with_unmixed()); });
  }
  const Folder folder;
  const std::string c =
      saved_with(folder, values, [](Configuration& all) { all["model"] = "\"fp-mamba,lstm\""; });
  check_refused<ValueError>("a layer for each kind", [&] { load_model(c, context); });
}

TEST_CASE("saved model: weights of another model, or none, are refused") {
  const Context context = test_context();
  const KeyTexts values = {{"model", "mamba"}, {"d_model", "8"}};
  const Folder folder;
  const std::string c =
      saved_with(folder, values, [](Configuration& all) { all["d_model"] = "16"; });
  check_refused<FormatError>("shapes must be the model's", [&] { load_model(c, context); });
  CHECK(saved_shape(c, "embedding.weight") == Shape{kVocabulary, 8});
  check_refused<FormatError>("every tensor must be there", [&] { saved_shape(c, "embedding"); });
  Small small;
  Configuration configuration = read_checkpoint_state(c).configuration;
  save_checkpoint(c, small.model, small.optimiser, {.configuration = configuration});
  check_refused<FormatError>("embedding.weight", [&] { load_model(c, context); });
  CHECK_THROWS_AS(load_model(folder.file("none"), context), FileError);
}

}  // namespace fprnn::tests
