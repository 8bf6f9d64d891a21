// copying: trains a sequence model to say a string again, or what follows an n-gram in it, and shows
// up to which length it does, read with the right letters before and with its own.
#include <fprnn/tasks/run/program.h>
#include <fprnn/tasks/string_copying.h>

namespace {

using namespace fprnn;

class CopyingProgram : public TaskProgram {
 public:
  std::string name() const override { return "copying"; }
  std::string about() const override {
    return "Trains a sequence model to copy strings: read $ s | and say s.";
  }
  KeyTexts defaults() const override {
    return key_texts(
        "mixer=householder gradient=exact iteration_cap=200 train_length=256 "
        "eval_lengths=50,100,200");
  }
  std::vector<Preset> presets() const override {
    return {
        {"quick",
         "8 letters, strings of 3 to 10: for two cores",
         key_texts(
             "letters=8 string_lengths=3,10 train_length=64 model=fp-deltanet d_model=64 heads=1 "
             "head_dim=64 hidden_dependence=q glu_in_loop=true short_conv=true gradient=one-step "
             "batch_size=32 steps=1500 lr=2e-3 weight_decay=1 eval_lengths=5,10,20,40 "
             "eval_sequences=512"),
         {{"characters", 10, 0.99}, {"characters", 20, 0.9}}},
        {"gpu", "26 letters, strings of 5 to 50: for a GPU",
         key_texts("d_model=256 d_state=16 batch_size=128 steps=5000 lr=1e-3")},
        {"paper", "The same as the paper trains it",
         key_texts("d_model=1024 d_state=32 short_conv=true mixer_input=symmetric "
                   "batch_size=128 steps=10000 lr=1e-5 schedule=linear warmup=300 "
                   "solver=patience gradient=one-step iteration_cap=10 "
                   "eval_lengths=5,10,20,40,50,60,80,100")}};
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("variant", variant_,
                 "copy s, or what follows an n-gram that was read before it (prefix) or behind",
                 {"copy", "prefix", "suffix"});
    settings.add("letters", options_.letters, "Letters that there are, 1 to 26");
    settings.add("string_lengths", lengths_, "The shortest and the longest string of training");
    const auto copies = [this] { return variant_ == "copy"; };
    settings.add("ngram", options_.ngram, "Letters of an n-gram").refusal = [copies, this] {
      return copies() && !options_.duplicate ? "copy has no n-grams without --duplicate" : "";
    };
    settings.add("answer", options_.answer, "Letters to say after an n-gram; 0: all").refusal =
        [copies] { return copies() ? "copy says all letters" : ""; };
    settings.title("Task", Decides::run);
    settings.add("duplicate", options_.duplicate,
                 "Evaluate copy on strings that hold an n-gram twice, whatever it was trained on");
  }
  std::unique_ptr<Task> task() const override {
    require<ValueError>(lengths_.size() == 2, "string_lengths",
                        "there must be two, the shortest and the longest", lengths_.size());
    CopyingOptions options = options_;
    options.variant = copying_variant_named(variant_);
    options.shortest = lengths_.front();
    options.longest = lengths_.back();
    return std::make_unique<StringCopying>(options);
  }

 private:
  std::string variant_ = "copy";
  std::vector<int64_t> lengths_ = {5, 50};
  CopyingOptions options_;
};

}  // namespace

int main(int argc, char** argv) {
  CopyingProgram program;
  return run_program(argc, argv, program);
}
