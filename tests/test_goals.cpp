// What a preset promises: of which runs, and when it is missed.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/goals.h>

#include <cmath>

#include "refused.h"
#include "sample_run.h"

namespace fprnn::tests {

namespace {

// A task's setting of the run, a model's, and what a run has besides.
struct Program {
  bool twice = false;
  int64_t width = 1, steps = 10, log_every = 5;
  uint64_t seed = 0;
  std::string preset;
  Settings settings;
  const std::vector<Preset> presets = {
      {"easy", "", {{"width", "4"}}, {{"whole_sequences", 16, 0.9}, {"tokens", 32, 0.75}}},
      {"low", "", {{"width", "4"}}, {{"tokens", 32, 0.75, Goal::Bound::most}}},
      {"free", "", {{"width", "4"}}}};

  // Those of what a command line says, with a file beside it.
  Goals goals(std::vector<const char*> arguments, const std::string& file = "{}") {
    settings.title("Task", Decides::run);
    settings.add("twice", twice, "t");
    settings.title("Model", Decides::model);
    settings.add("width", width, "w");
    settings.title("Training", Decides::training);
    settings.add("steps", steps, "s");
    settings.add("seed", seed, "s");
    settings.title("Run", Decides::run);
    settings.add("log_every", log_every, "l");
    settings.add("preset", preset, "p");
    settings.set(Preset{"of the task", "", {{"steps", "20"}}});
    arguments.insert(arguments.begin(), "program");
    const CommandLine command{
        .about = "about", .presets = presets, .preset = preset, .read_files = [&](Settings& s) {
          s.set_json(file, "file");
        }};
    CHECK(
        read_command_line(static_cast<int>(arguments.size()), arguments.data(), command, settings));
    return goals_of(presets, preset, settings, 1);
  }
};

bool has_goals(const std::vector<const char*>& arguments, const std::string& file = "{}") {
  return !Program().goals(arguments, file).goals.empty();
}

}  // namespace

TEST_CASE("goals: they are of a preset as it is") {
  CHECK(has_goals({"--preset", "easy"}));
  CHECK(has_goals({"--preset", "easy", "--seed", "7", "--log-every", "1"}));
  CHECK(has_goals({"--preset", "easy", "--width", "4", "--steps=20"}));
  CHECK(has_goals({}, R"({"preset": "easy", "steps": 20})"));
  CHECK(!has_goals({}));
  CHECK(!has_goals({"--preset", "free"}));
  CHECK(!has_goals({"--width", "4"}));
  CHECK(!has_goals({"--preset", "easy", "--width", "5"}));
  CHECK(!has_goals({"--preset", "easy", "--steps", "10"}));
  CHECK(!has_goals({"--preset", "easy", "--twice"}));
  CHECK(!has_goals({"--preset", "easy"}, R"({"steps": 10})"));
}

TEST_CASE("goals: one that is missed is named with what was reached") {
  const Goals goals = Program().goals({"--preset", "easy"});
  const auto check = [&](const std::vector<double>& accuracies) {
    check_goals(goals, sample_run("", accuracies, false).evaluation);
  };
  check({0.9, 0.5});  // tokens are 0.95 and 0.75
  check({1});         // 32 was not evaluated
  check({});
  check_refused<Error>("easy", [&] { check({0.89, 1}); });
  check_refused<Error>("whole_sequences', 16, 0.89 and 0.9", [&] { check({0.89, 1}); });
  check_refused<Error>("'tokens', 32, 0.7 and 0.75", [&] { check({1, 0.4}); });
  check_refused<Error>("whole_sequences", [&] { check({std::nan(""), 1}); });

  const Goals low = Program().goals({"--preset", "low"});
  const auto check_low = [&](double token_accuracy) {
    check_goals(low, sample_run("", {1, 2 * token_accuracy - 1}, false).evaluation);
  };
  check_low(0.75);
  check_low(0.5);
  check_refused<Error>("value and most, got 'low', 0, 'tokens', 32, 0.875 and 0.75",
                       [&] { check_low(0.875); });
  check_refused<Error>("nan", [&] { check_low(std::nan("")); });
  check_goals({}, sample_run("", {0}, false).evaluation);
}

}  // namespace fprnn::tests
