// recall: trains a sequence model to remember, keys with their values or data among noise, and shows
// for how many and how far apart it does.
#include <fprnn/tasks/recall_tasks.h>
#include <fprnn/tasks/run/program.h>

namespace {

using namespace fprnn;

class RecallProgram : public TaskProgram {
 public:
  std::string name() const override { return "recall"; }
  std::string about() const override {
    return "Trains a sequence model to recall the values of keys (mqar) or the data among noise "
           "(selective).";
  }
  KeyTexts defaults() const override {
    return key_texts("train_length=32 eval_lengths=32,64,128 d_model=64 lr=3e-3 warmup=100");
  }
  // The quick ones take what learnt soonest of the models tried (docs/tasks/recall.md).
  std::vector<Preset> presets() const override {
    return {
        {"quick",
         "MQAR of 4 pairs in 32 tokens: minutes on two cores",
         key_texts("variant=mqar vocabulary=64 keys=4 train_length=32 steps=400 "
                   "model=gated-deltanet layers=2 "
                   "eval_lengths=32,64,128"),
         {{"recalled", 32, 0.99}}},
        {"quick-selective",
         "4 data tokens in 64 places",
         key_texts("variant=selective vocabulary=16 keys=4 train_length=64 steps=400 "
                   "model=gated-deltanet layers=2 "
                   "eval_lengths=64,128,256"),
         {{"recalled", 64, 0.99}}},
        {"paper", "MQAR in Zoology's sizes, trained at its longest length: not for a CPU",
         key_texts("variant=mqar vocabulary=8192 filler=random train_length=256 batch_size=256 "
                   "steps=22500 "
                   "keys=64/4,64/8,64/16,128/32,256/16,256/32,256/64,512/128,1024/256 "
                   "eval_lengths=64,128,256,512,1024")},
        {"paper-selective", "16 data tokens in 4,096 places, as in Mamba's paper: not for a CPU",
         key_texts("variant=selective vocabulary=16 keys=16 train_length=4096 layers=2 "
                   "steps=400000 lr=0.0001 warmup=0 eval_lengths=4096")}};
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("variant", variant_, "Keys with values, or data among noise",
                 {"mqar", "selective"});
    settings.add("vocabulary", vocabulary_,
                 "Tokens V. mqar: 0 filler, keys below V/2, values from it; selective: 0 noise, "
                 "data, V-1 asks (16 in the paper)");
    // What is recalled stays the same: a model can be evaluated with others.
    settings.title("Task", Decides::training);
    settings.add("keys", keys_,
                 "Pairs, or data tokens, of a row: a number, or LENGTH/KEYS,.. of which a length "
                 "takes the last not above it, by turns if there are several");
    const auto add_of_mqar = [&](std::string key, auto& value, std::string help,
                                 std::vector<std::string> choices = {}) {
      settings.add(key, value, std::move(help), std::move(choices)).refusal = [this, key] {
        return variant_ == "mqar" ? "" : variant_ + " has no " + key;
      };
    };
    add_of_mqar("filler", filler_, "Of mqar, where no key is asked for", {"zeros", "random"});
    add_of_mqar("power", power_, "Of mqar: slot i is taken as i^(power - 1); 1: all alike");
  }
  std::unique_ptr<Task> task() const override {
    std::unique_ptr<Recall> recall;
    if (variant_ == "selective")
      recall = std::make_unique<SelectiveCopying>(vocabulary_, keys_by_length(keys_));
    else
      recall = std::make_unique<Mqar>(
          Mqar::Options{.vocabulary = vocabulary_,
                        .keys = keys_by_length(keys_),
                        .filler = filler_ == "random" ? Mqar::Filler::random : Mqar::Filler::zeros,
                        .power = power_});
    return recall;
  }

 private:
  std::string variant_ = "mqar", keys_ = "4", filler_ = "zeros";
  int64_t vocabulary_ = 64;
  double power_ = 0.01;
};

}  // namespace

int main(int argc, char** argv) {
  RecallProgram program;
  return run_program(argc, argv, program);
}
