// mod_arithmetic: trains a sequence model to evaluate expressions modulo 5, or to answer for three
// small automata, and shows at which lengths it still does.
#include <fprnn/tasks/arithmetic.h>
#include <fprnn/tasks/run/program.h>

namespace {

using namespace fprnn;

// Lengths to 40, as the protocol has them, take longer (docs/tasks/mod_arithmetic.md).
constexpr std::string_view kQuick =
    "d_model=32 rank=2 train_length=10 batch_size=32 steps=1200 eval_lengths=10,40,64,128,256";

class ModArithmetic : public TaskProgram {
 public:
  std::string name() const override { return "mod_arithmetic"; }
  std::string about() const override {
    return "Trains a sequence model on questions with one answer: expressions modulo 5, parity, "
           "even "
           "pairs, a walk on a cycle.";
  }
  KeyTexts defaults() const override {
    return key_texts(
        "mixer=householder glu_in_loop=true gradient=exact iteration_cap=200 "
        "lr=5e-3 warmup=100 clip=0.3 betas=0.9,0.95 state_dropout=0.1 "
        "train_length=40 eval_lengths=40,64,128,256");
  }
  std::vector<Preset> presets() const override {
    const std::vector<Goal> goals = {{"accuracy", 40, 0.99}, {"accuracy", 256, 0.95}};
    return {
        {"quick", "Parity: minutes on two cores", quick("parity"), goals},
        {"quick-even-pairs", "Whether the first bit is the last", quick("even-pairs"), goals},
        {"quick-cycle", "A walk on five places", quick("cycle"), goals},
        {"gpu", "Expressions in brackets: not for a CPU",
         key_texts("variant=brackets d_model=128 layers=2 rank=4 batch_size=256 steps=50000 "
                   "lr=1e-3 warmup=1000 clip=1 state_dropout=0")},
        {"paper", "Expressions in brackets as the paper trains them: not for a CPU",
         key_texts("variant=brackets d_model=128 layers=2 rank=4 glu_in_loop=false short_conv=true "
                   "batch_size=256 steps=100000 lr=1e-3 end_lr=1e-6 warmup=10000 weight_decay=0.1 "
                   "clip=1e9 betas=0.9,0.999 state_dropout=0 solver=patience gradient=one-step "
                   "max_iterations=1000 iteration_cap=none eval_sequences=8192 test_from=40 "
                   "eval_lengths=256")}};
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("variant", task_.variant, "What is asked",
                 {"brackets", "plain", "parity", "even-pairs", "cycle"});
    // Symbols are the same: a model can be evaluated with others.
    settings.title("Task", Decides::training);
    settings
        .add("operators", operators_, "Of brackets and plain", {"plus-minus-times", "plus-minus"})
        .refusal = [this] {
      const bool has = task_.variant == "brackets" || task_.variant == "plain";
      return has ? "" : task_.variant + " has no operators";
    };
    settings.title("Task", Decides::run);
    settings.add("test_from", task_.test_from,
                 "Shortest length in an evaluation, the given one being the longest; 0: it alone");
  }
  std::unique_ptr<Task> task() const override {
    ArithmeticOptions options = task_;
    options.times = operators_ == "plus-minus-times";
    return std::make_unique<Arithmetic>(options);
  }

 private:
  static KeyTexts quick(const std::string& variant) {
    KeyTexts values = key_texts(kQuick);
    values.emplace_back("variant", variant);
    return values;
  }

  ArithmeticOptions task_;
  std::string operators_ = "plus-minus-times";
};

}  // namespace

int main(int argc, char** argv) {
  ModArithmetic program;
  return run_program(argc, argv, program);
}
