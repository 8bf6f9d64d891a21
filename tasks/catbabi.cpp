// catbabi: trains a sequence model to answer questions on the stories that it reads, one after the
// other, of bAbI's files or simulated ones.
#include <fprnn/core/text.h>
#include <fprnn/tasks/babi/catbabi.h>
#include <fprnn/tasks/babi/simulator.h>
#include <fprnn/tasks/run/output.h>
#include <fprnn/tasks/run/program.h>

#include <algorithm>

namespace {

using namespace fprnn;
using namespace fprnn::babi;

// How many stories and questions the parts have.
std::string summary_of(const Stories& stories) {
  std::string text = std::to_string(stories.vocabulary().size()) + " tokens";
  for (const Part part : kParts) {
    int64_t questions = 0;
    for (const Story& story : stories.of(part))
      questions += std::ranges::count(story.words, stories.question_mark());
    text += "; " + std::string(name_of(part)) + ": " + std::to_string(stories.of(part).size()) +
            " stories, " + std::to_string(questions) + " questions";
  }
  return text;
}

class CatbabiProgram : public TaskProgram {
 public:
  std::string name() const override { return "catbabi"; }
  std::string about() const override {
    return "Trains a sequence model to answer questions on stories, bAbI's or simulated ones.";
  }
  KeyTexts defaults() const override {
    return key_texts(
        "train_length=200 eval_lengths=200 batch_size=64 d_model=64 lr=3e-3 warmup=50");
  }
  std::vector<Preset> presets() const override {
    return {
        {"quick", "Simulated stories of tasks 1, 6 and 7, meant for .95 of the answers",
         key_texts("tasks=1,6,7 stories=5000 model=gated-deltanet layers=2 batch_size=16 "
                   "steps=3500")},
        {"gpu", "All tasks that there are, or 10,000 simulated stories of each: for a GPU",
         key_texts("stories=10000 d_model=256 d_state=16 batch_size=64 steps=15000 lr=5e-4 "
                   "keep=best eval_every=1500")},
        {"paper", "bAbI's files as the paper trains on them, without carried state: not for a CPU",
         key_texts("d_model=512 d_state=16 short_conv=true carry_state=off batch_size=256 "
                   "steps=15000 lr=5e-4 schedule=constant warmup=0 weight_decay=0 clip=1e9 "
                   "iteration_cap=100 examined_lanes=1 keep=best eval_every=1500")}};
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("data", data_, "Folder with bAbI's files, qaN_train.txt and so on, or simulated");
    settings.add("tasks", tasks_, "Numbers of tasks, comma-separated, or all that there are");
    const auto add_simulated = [&](std::string key, auto& value, std::string help) {
      settings.add(std::move(key), value, std::move(help)).refusal = [this] {
        return is_simulated() ? "" : "a folder of data has its own stories";
      };
    };
    add_simulated("stories", simulator_.stories,
                  "Simulated stories of a task to train on; a tenth as many to validate and test");
    add_simulated("data_seed", simulator_.seed, "Seed of simulated stories");
    settings.title("Task", Decides::training);
    settings.add("carry_state", carry_, "Whether windows go on from the state of those before",
                 {"on", "off"});
    settings.add("lm", lm_, "Train on every word, not on answers alone");
    settings.title("Task", Decides::run);
    settings.add("examined", examined_, "Part that is evaluated", {"valid", "test"});
    settings.add("examined_lanes", examined_lanes_, "Lanes that it is read in");
    settings.title("This time", Decides::action);
    settings
        .add("synthesize", synthesize_, "Folder to make for simulated stories, without training")
        .refusal = [this] { return synthesize_.empty() ? "it must name a folder" : ""; };
  }
  bool acts() const override {
    if (synthesize_.empty()) return false;
    require<UsageError>(is_simulated(), "synthesize", "it goes without --data", data_);
    const std::vector<File> files = simulated(simulator());
    write_folder(synthesize_, files);
    print(synthesize_ + ": " + std::to_string(files.size()) + " files\n");
    return true;
  }
  std::unique_ptr<Task> task() const override {
    const std::vector<File> files =
        is_simulated() ? simulated(simulator()) : read_folder(data_, tasks());
    CatbabiOptions options{.carry = carry_ == "on",
                           .loss = lm_ ? Loss::words : Loss::answers,
                           .examined = examined_ == "valid" ? Part::valid : Part::test,
                           .examined_lanes = examined_lanes_};
    Stories stories(files);
    print_error(summary_of(stories));
    return std::make_unique<Catbabi>(std::move(stories), options);
  }

 private:
  bool is_simulated() const { return data_ == "simulated"; }
  std::vector<int64_t> tasks() const {  // none: all
    std::vector<int64_t> tasks;
    if (tasks_ == "all") return tasks;
    for (const std::string& text : split(tasks_, ',')) {
      const auto task = number_in<int64_t>(text);
      require<ValueError>(task.has_value(), "tasks", "must be all, or numbers such as 1,6,7",
                          tasks_);
      tasks.push_back(*task);
    }
    return tasks;
  }
  SimulatorOptions simulator() const {
    SimulatorOptions options = simulator_;
    if (tasks_ != "all") options.tasks = tasks();
    return options;
  }

  std::string data_ = "simulated", carry_ = "on", examined_ = "test", tasks_ = "all", synthesize_;
  SimulatorOptions simulator_;
  bool lm_ = false;
  int64_t examined_lanes_ = 128;
};

}  // namespace

int main(int argc, char** argv) {
  CatbabiProgram program;
  return run_program(argc, argv, program);
}
