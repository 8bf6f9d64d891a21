// language_model: trains a sequence model on the bytes of a text, shows how many bits a byte costs it,
// and lets it write.
#include <fprnn/core/file.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/language_modelling.h>
#include <fprnn/tasks/named_text.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/program.h>
#include <fprnn/tasks/sampling.h>

#include <filesystem>

namespace {

using namespace fprnn;

constexpr int64_t kMostPrompt = 1 << 24, kMostSamples = 1 << 20;

// Sample k of a seed: a stream that nothing else of it reads.
Rng sampling_stream(uint64_t seed, int64_t k) {
  return {seed, uint64_t{3} << 62 | static_cast<uint64_t>(k)};
}

class LanguageModelProgram : public TaskProgram {
 public:
  std::string name() const override { return "language_model"; }
  std::string about() const override {
    return "Trains a sequence model to predict the next byte of a text, and samples from it.";
  }
  KeyTexts defaults() const override {
    return key_texts(
        "train_length=256 eval_lengths=256 batch_size=16 d_model=64 layers=2 lr=3e-3 warmup=50");
  }
  std::vector<Preset> presets() const override {
    return {
        {"quick", "minutes of two CPU cores",
         key_texts("model=fp-mamba mixer=householder mixer_input=symmetric hidden_dependence=q "
                   "bc_norm=false glu_in_loop=true short_conv=true d_model=84 layers=2 "
                   "train_length=256 batch_size=8 steps=800 lr=6e-3 warmup=40 eval_lengths=256"),
         quick_goals()},
        {"gpu", "minutes of one GPU",
         key_texts("model=fp-mamba mixer=householder mixer_input=symmetric hidden_dependence=q "
                   "bc_norm=false glu_in_loop=true short_conv=true d_model=336 layers=4 "
                   "train_length=512 batch_size=32 steps=2000 lr=2e-3 warmup=200 dropout=0.15 "
                   "tolerance=1e-2 eval_lengths=512")},
        {"paper", "the paper's sizes, on bytes in place of its tokens: not for a CPU",
         key_texts(
             "model=fp-mamba mixer=householder d_model=768 layers=12 d_state=16 train_length=2048 "
             "batch_size=32 accumulate=8 steps=4800 short_conv=true lr=0.004 end_lr=1e-5 "
             "warmup=480 weight_decay=0.1 betas=0.9,0.95 clip=1 iteration_cap=100 "
             "eval_lengths=2048")}};
  }
  void add_to(Settings& settings) override {
    // A model of bytes can go on to other bytes in an evaluation.
    settings.title("Task", Decides::training);
    settings.add("text", text_,
                 "kjv, markov, markov:SEED, or files and folders, comma-separated; all bytes");
    settings.add("carry_state", carry_state_,
                 "Train on lanes of the text, with the state carried from step to step",
                 {"false", "true"});
    settings.title("Task", Decides::run);
    settings.add("held_out", held_out_, "Part to evaluate on", {"validation", "test"});
    settings.add("eval_bytes", eval_bytes_, "Of that part, from its beginning; 0: all");
    settings.title("Sampling", Decides::action);
    settings
        .add("sample", sample_, "Bytes to write, with --evaluate RUN, in place of an evaluation")
        .refusal = [this] { return sample_ == 0 ? "there must be a byte to write" : ""; };
    const auto add = [&](std::string key, auto& value, std::string help) {
      settings.add(std::move(key), value, std::move(help)).refusal = [this] {
        return sample_ != 0 ? "" : "without --sample it does nothing";
      };
    };
    add("prompt", prompt_, "Text to go on from, or @FILE");
    add("temperature", sampling_.temperature, "Of the softmax; 0: the likeliest byte");
    add("top_k", sampling_.top_k, "Likeliest bytes to draw from; 0: all");
    add("top_p", sampling_.top_p, "Draw from the likeliest that have this probability together");
    add("stop", stop_,
        "Texts that end a sample, separated by |; \\n, \\t, \\|, \\\\ and \\xHH are bytes");
    add("count", count_, "Samples, one after the other with an end of line between");
    add("escape", escape_, "Write bytes that are no UTF-8 as \\xHH");
  }
  std::unique_ptr<Task> task() const override {
    using Part = LanguageModelling::Part;
    if (has_use()) sampling();
    return std::make_unique<LanguageModelling>(
        has_use() ? Text() : text_named(text_),
        LanguageModelling::Options{.carries_state = carry_state_ == "true",
                                   .held_out = held_out_ == "test" ? Part::test : Part::validation,
                                   .most = eval_bytes_});
  }
  bool has_use() const override { return sample_ != 0; }
  void use(SequenceModel& model, const Context& context, uint64_t seed) const override {
    const SamplingOptions options = sampling();
    const std::string prompt = prompt_text();
    for (int64_t k = 0; k < count_; ++k) {
      const std::string text =
          sample_text(model, context, prompt, options, sampling_stream(seed, k));
      print_bytes((k > 0 ? "\n" : "") + (escape_ ? escaped(text) : text));
    }
  }

 private:
  // Of the King James Bible; no other text's bytes cost as much.
  static std::vector<Goal> quick_goals() {
    if (default_text() != "kjv") return {};
    return {{"bits_per_byte", 256, 2.4, Goal::Bound::most}};
  }
  // ValueError: a setting of sampling out of range.
  SamplingOptions sampling() const {
    SamplingOptions options = sampling_;
    options.tokens = sample_;
    options.stops = stops_of(stop_);
    require<ValueError>(count_ >= 1 && count_ <= kMostSamples, "count", "must be 1 to 2^20",
                        count_);
    const bool is_file = prompt_.starts_with('@');
    require<UsageError>(!is_file || std::filesystem::is_regular_file(prompt_.substr(1)), "prompt",
                        "the file must be there", prompt_);
    require<ValueError>(is_file || is_utf8(prompt_), "prompt",
                        "must be UTF-8; @FILE may have any bytes", escaped(prompt_));
    return check(options);
  }
  std::string prompt_text() const {
    return prompt_.starts_with('@') ? read_file(prompt_.substr(1), kMostPrompt) : prompt_;
  }

  std::string text_ = default_text(), carry_state_ = "false", held_out_ = "validation";
  int64_t eval_bytes_ = 0, sample_ = 0, count_ = 1;
  SamplingOptions sampling_;
  std::string prompt_, stop_;
  bool escape_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  LanguageModelProgram program;
  return run_program(argc, argv, program);
}
