// A language model of characters from the library's parts, with a main of its own: a task, a model by
// its name, training, a checkpoint, and text by the model that the checkpoint alone gives back.
//   character_model [TEXT-FILE [MODEL]]
#include <fprnn/core/file.h>
#include <fprnn/core/vector.h>
#include <fprnn/models/saved_model.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/sampling.h>

#include <cstdio>

namespace {

using namespace fprnn;

constexpr int64_t kLength = 32;  // of a sequence
const std::string kText =
    "Round and round the rugged rock the ragged rascal ran. "
    "How many rs are in that? Now tell me if you can. ";

// Pieces of a text, each from anywhere in it: after every byte the next one is asked for.
class Characters : public Task {
 public:
  explicit Characters(std::string text) : text_(std::move(text)) {}
  int64_t vocabulary() const override { return 256; }
  Batch sample(const Context& context, const Rng& rng, int64_t B, int64_t length) const override {
    check_batch("characters", B, length);
    require<ValueError>(length < std::ssize(text_), "characters",
                        "the text must be longer than a sequence: its bytes and the length",
                        std::ssize(text_), length);
    std::vector<int32_t> read = host_vector<int32_t>({B, length}), next = read;
    for (int64_t b = 0; b < B; ++b) {
      const int64_t begin = rng.below(b, std::ssize(text_) - length);
      for (int64_t t = 0; t < length; ++t) {
        read[b * length + t] = static_cast<unsigned char>(text_[begin + t]);
        next[b * length + t] = static_cast<unsigned char>(text_[begin + t + 1]);
      }
    }
    return {.tokens = IntTensor(context, {B, length}, read),
            .targets = IntTensor(context, {B, length}, next),
            .mask = full(context, {B, length}, 1)};
  }

 private:
  std::string text_;
};

// Trains a model and leaves it in a checkpoint, which says which model it is.
void train_into(const std::string& checkpoint, const std::string& name, const Task& task,
                const Context& context) {
  ModelSettings model;
  Settings settings;
  model.add_to(settings);
  settings.set("model", name, "the model's name");
  settings.set("d_model", "32", "this example");  // and so on: --help of any task lists them
  Rng rng{.seed = 1};
  const auto made = model.make(task.vocabulary(), {context, rng});
  Training training(*made, task, context,
                    {.steps = 200, .batch_size = 8, .length = kLength, .lr = 1e-2, .warmup = 10});
  while (!training.finished()) {
    const StepMetrics& now = training.step();
    if (now.step % 40 == 0)
      std::printf("step %3d  loss %.3f\n", static_cast<int>(now.step), now.loss);
  }
  save_checkpoint(checkpoint, *made, training.optimiser(),
                  {.step = training.last().step,
                   .configuration = settings.values({Decides::model, Decides::solver})});
}

// The text and so many bytes after it, in memory that does not grow with them.
std::string go_on(SequenceModel& model, const Context& context, std::string text, int64_t bytes) {
  const Rng rng{.seed = 2};
  const int64_t end = std::ssize(text) + bytes;
  SequenceModel::State state;
  for (int64_t i = 0; std::ssize(text) < end; ++i) {
    const std::vector<int32_t> byte = {static_cast<unsigned char>(text[i])};
    const Tensor logits = model.step(state, IntTensor(context, {1}, byte));  // (1, 256)
    if (i + 1 == std::ssize(text))
      text += static_cast<char>(pick(logits.to_vector(), {.temperature = 0.3}, rng.uniform(i)));
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  const Context context = Context::cpu();
  const std::string text = argc > 1 ? read_file(argv[1], 1 << 24) : kText;
  const Characters task(text);
  const std::string checkpoint = "character_model.checkpoint";
  train_into(checkpoint, argc > 2 ? argv[2] : "fp-mamba", task, context);
  const auto model = load_model(checkpoint, context);
  const LengthResult result = evaluate(*model, task, context, /*seed=*/1, kLength, 64);
  std::printf("share of right bytes  %.3f\n", result.metric("tokens"));
  std::printf("%s\n", go_on(*model, context, text.substr(0, 1), 100).c_str());
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
