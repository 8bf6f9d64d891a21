// state_tracking: trains a sequence model to follow the word problem of a finite group, and shows
// at which lengths it still does.
#include <fprnn/tasks/program.h>
#include <fprnn/tasks/word_problem.h>

namespace {

using namespace fprnn;

class StateTracking : public TaskProgram {
 public:
  std::string name() const override { return "state_tracking"; }
  std::string about() const override {
    return "Trains a sequence model on the word problem of a finite group.";
  }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("group", group_, "Z<n>, S<n>, A<n> (n <= 5) or a product such as A4xZ5");
  }
  std::unique_ptr<Task> task() const override {
    return std::make_unique<WordProblem>(group_named(group_));
  }
  std::string group() const override { return group_; }

 private:
  std::string group_ = "S3";
};

}  // namespace

int main(int argc, char** argv) {
  StateTracking program;
  return run_program(argc, argv, program);
}
