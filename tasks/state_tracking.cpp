// state_tracking: trains a sequence model to follow the word problem of a finite group, and shows
// at which lengths it still does.
#include <fprnn/tasks/run/program.h>
#include <fprnn/tasks/word_problem.h>

namespace {

using namespace fprnn;

class StateTracking : public TaskProgram {
 public:
  std::string name() const override { return "state_tracking"; }
  std::string about() const override {
    return "Trains a sequence model on the word problem of a finite group: read x_1 .. x_k, say "
           "x_1 x_2 .. x_t after each.";
  }
  // What docs/recipes.md found for groups: the exact gradient, a readout that sees the state alone,
  // states that are dropped, a second moment that forgets sooner.
  KeyTexts defaults() const override {
    return key_texts(
        "mixer=householder glu_in_loop=true gradient=exact "
        "iteration_cap=200 "  // while it learns, some steps have no answer yet
        "lr=5e-3 warmup=100 clip=0.3 betas=0.9,0.95 state_dropout=0.1");
  }
  std::vector<Preset> presets() const override {
    return {{"quick",
             "S3 in half a minute on two cores",
             key_texts("group=S3 d_model=32 rank=2 steps=2500 eval_lengths=16,32,64,128,256"),
             {{"whole_sequences", 64, 0.99}}},
            {"a5",
             "A5, the headline: minutes on two cores, to length 512",
             key_texts("group=A5 d_model=32 rank=4 steps=8000 "
                       "eval_lengths=16,24,32,48,64,128,256,512"),
             {{"whole_sequences", 64, 0.99}}},
            {"s5", "S5, which needs more width: for a GPU",
             key_texts("group=S5 d_model=64 rank=4 mixer_input=symmetric batch_size=256 "
                       "steps=8000 lr=3e-3 weight_decay=0.5 state_dropout=0.2 "
                       "eval_lengths=16,24,32,48,64,128,256,512")},
            {"a5-paper", "A5 as the paper trains it: not for a CPU",
             key_texts("group=A5 mixer=kronecker glu_in_loop=false d_model=512 batch_size=512 "
                       "steps=127140 lr=0.0001 warmup=0 weight_decay=0.01 betas=0.9,0.999 clip=1 "
                       "state_dropout=0 solver=patience gradient=one-step max_iterations=1000 "
                       "iteration_cap=16 eval_lengths=2,7,12,17,22,27,32,37,42,47,50")},
            {"a5-pd-ssm", "A5's generators as PD-SSM's authors train them: not for a CPU",
             key_texts("group=A5 alphabet=generators model=pd-ssm d_model=128 layers=2 "
                       "train_length=40 shortest=3 supervise=last batch_size=256 steps=100000 "
                       "lr=2e-3 end_lr=1e-5 warmup=10000 weight_decay=0.01 betas=0.9,0.999 clip=1 "
                       "state_dropout=0 eval_lengths=40,256 eval_sequences=8192")}};
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("group", group_, "Z<n>, S<n>, A<n> (n <= 5) or a product such as A4xZ5");
    // What is said stays the same: a model can be evaluated with others, but for the blank.
    settings.title("Task", Decides::training);
    settings
        .add("alphabet", options_.alphabet,
             "Elements read: all; of A5, S5 generators or generators:N; of S<n>, A<n> swaps or "
             "move3; spaced:M, all with M - 1 blanks after each")
        .implied = "all";
    settings
        .add("hold_out", options_.hold_out,
             "Share never trained on: pairs:P of two elements in a row, cells:P of product and "
             "element; or none")
        .implied = "none";
    settings
        .add("shortest", options_.shortest,
             "Shortest row of training, train-length being the longest; 0: all rows have it")
        .implied = "0";
    settings.add("supervise", supervise_, "Labels of a row that training asks for", {"all", "last"})
        .implied = "all";
  }
  std::unique_ptr<Task> task() const override {
    WordProblemOptions options = options_;
    options.supervise = supervise_ == "last" ? Supervise::last : Supervise::all;
    return std::make_unique<WordProblem>(group_named(group_), options);
  }

 private:
  std::string group_ = "S3";
  std::string supervise_ = "all";
  WordProblemOptions options_;
};

}  // namespace

int main(int argc, char** argv) {
  StateTracking program;
  return run_program(argc, argv, program);
}
