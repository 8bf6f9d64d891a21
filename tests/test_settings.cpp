// Settings from flags, environment, files and presets: who wins, and what is refused.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/options.h>

#include "named_model.h"
#include "refused.h"
#include "variable.h"

namespace fprnn::tests {

namespace {

// Every type of setting, and the way in from a command line.
struct Program {
  int64_t width = 1, deep = 2;
  uint64_t seed = 3;
  double rate = 0.5;
  bool open = false;
  std::string kind = "a", preset, what, late = "none";
  std::vector<int64_t> list = {1, 2};
  std::string file;  // what a JSON file says
  Settings settings;

  Program() {
    settings.title("Model", Decides::model);
    settings.add("width", width, "w");
    settings.add("deep_er", deep, "d");
    settings.add("kind", kind, "k", {"a", "b"});
    settings.title("Rest", Decides::training);
    settings.add("seed", seed, "s");
    settings.add("rate", rate, "r");
    settings.add("open", open, "o");
    settings.add("list", list, "l");
    settings.title("Run", Decides::run);
    settings.add("preset", preset, "p");
    settings.title("Now", Decides::action);
    settings.add("what", what, "w");
  }
  void read(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "program");
    const CommandLine command{.about = "about",
                              .presets = {{"big", "", {{"width", "100"}, {"rate", "2"}}},
                                          {"odd", "", {{"width", "wide"}}}},
                              .preset = preset,
                              .read_files = [this](Settings& s) {
                                if (!file.empty()) s.set_json(file, "file");
                              }};
    const bool goes_on =
        read_command_line(static_cast<int>(arguments.size()), arguments.data(), command, settings);
    CHECK(goes_on);
  }
};

}  // namespace

TEST_CASE("settings: a flag wins over the environment, that over a file, a preset, the default") {
  const std::vector<const char*> flags = {"--width", "5"};
  const std::string file = R"({"width": 3, "preset": "big"})";
  {
    Program p;
    p.read({});
    CHECK(p.width == 1);
  }
  {
    Program p;
    p.read({"--preset", "big"});
    CHECK(p.width == 100);
    CHECK(p.rate == 2);
  }
  {
    Program p;
    p.file = file;
    p.read({});
    CHECK(p.width == 3);
    CHECK(p.rate == 2);  // of the preset that the file names
  }
  const Variable width("FPRNN_WIDTH", "4");
  Program p;
  p.file = file;
  p.read({});
  CHECK(p.width == 4);
  p.read(flags);
  CHECK(p.width == 5);
}

TEST_CASE("settings: a value that is implied is not in a checkpoint's") {
  const auto values = [](const std::vector<const char*>& flags, bool implied) {
    Program program;
    program.settings.title("Late", Decides::training);
    if (implied) program.settings.add("late", program.late, "l").implied = "none";
    program.read(flags);
    CHECK((program.settings.to_json().find("\"late\"") != std::string::npos) == implied);
    return program.settings.values({Decides::training});
  };
  CHECK(values({}, true) == values({}, false));
  CHECK(values({"--late", "none"}, true) == values({}, false));
  CHECK(values({"--late", "so"}, true).at("late") == "\"so\"");
}

TEST_CASE(
    "settings: a record from before a setting says what is implied, whatever presets say now") {
  const auto late_after = [](const std::string& file, const std::vector<const char*>& flags = {}) {
    Program program;
    program.settings.title("Late", Decides::training);
    program.settings.add("late", program.late, "l").implied = "none";
    program.settings.title("Model", Decides::model);
    std::string form = "plain";
    program.settings.add("form", form, "f").implied = "plain";
    program.settings.set(Preset{"of the task", "", {{"late", "so"}, {"form", "curved"}}});
    program.file = file;
    program.read(flags);
    const bool record = file.find("deep_er") != std::string::npos;
    CHECK(form == (record ? "plain" : "curved"));
    for (const Setting& setting : program.settings.all())
      if (!file.empty() && setting.key == "width") CHECK(setting.named_by.empty() == record);
    return program.late;
  };
  const std::string record = R"({"width": 3, "deep_er": 4, "kind": "b", "seed": 1})";
  CHECK(late_after("") == "so");
  CHECK(late_after(R"({"width": 3})") == "so");
  CHECK(late_after(record) == "none");
  CHECK(late_after(record, {"--late", "mine"}) == "mine");

  Program checkpoint;
  checkpoint.settings.title("Late", Decides::training);
  checkpoint.settings.add("late", checkpoint.late, "l").implied = "none";
  checkpoint.late = "so";
  checkpoint.settings.set({{"width", "3"}}, "checkpoint");
  CHECK((checkpoint.late == "none" && checkpoint.width == 3));
  checkpoint.settings.set({{"late", "\"then\""}}, "checkpoint");
  CHECK(checkpoint.late == "then");
}

TEST_CASE("settings: every type from a flag, the environment and JSON") {
  const auto check = [](const Program& p) {
    CHECK(p.deep == -7);
    CHECK(p.seed == UINT64_MAX);
    CHECK(p.rate == 1e-3);
    CHECK(p.open);
    CHECK(p.kind == "b");
    CHECK(p.list == std::vector<int64_t>{16, 24, 512});
  };
  Program flags;
  flags.read({"--deep-er=-7", "--seed", "18446744073709551615", "--rate", "1e-3", "--open",
              "--kind", "b", "--list", "16,24,512"});
  check(flags);

  Program file;
  file.file = flags.settings.to_json();
  file.read({});
  check(file);
  CHECK(file.settings.to_json() == flags.settings.to_json());

  Program variables;
  const Variable all[] = {{"FPRNN_DEEP_ER", "-7"}, {"FPRNN_SEED", "18446744073709551615"},
                          {"FPRNN_RATE", ".001"},  {"FPRNN_OPEN", "true"},
                          {"FPRNN_KIND", "b"},     {"FPRNN_LIST", "16,24,512"}};
  variables.read({});
  check(variables);
  variables.read({"--open", "false"});
  CHECK(!variables.open);

  Program copy;
  copy.settings.set(flags.settings.values({Decides::model, Decides::training}), "checkpoint");
  check(copy);
  CHECK(flags.settings.values({Decides::model}) ==
        KeyValues{{"width", "1"}, {"deep_er", "-7"}, {"kind", "\"b\""}});
}

TEST_CASE("settings: what is wrong is named, with its source") {
  const auto flags = [](const std::string& named, std::vector<const char*> arguments) {
    check_refused<UsageError>(named, [&] { Program().read(arguments); });
  };
  flags("--wide", {"--wide", "3"});
  flags("width", {"--width", "three"});
  flags("width", {"--width", "3.5"});
  flags("width", {"--width", ""});
  flags("width", {"--width", "9223372036854775808"});
  flags("width", {"--width"});
  flags("seed", {"--seed=-1"});
  flags("rate", {"--rate", "nan"});
  flags("rate", {"--rate", "1e999"});
  flags("a, b", {"--kind", "c"});
  flags("list", {"--list", "1,,2"});
  flags("list", {"--list", "1,2,"});
  flags("open", {"--open", "maybe"});
  flags("(did you mean --width?)", {"--wdith", "3"});
  flags("(did you mean --deep-er?)", {"--deep_er=3"});
  flags("big, odd", {"--preset", "small"});
  flags("preset odd", {"--preset", "odd"});
  flags("stray", {"stray"});
  const auto variable = [&](const char* name, const char* value, const std::string& named) {
    const Variable set(name, value);
    flags(named, {});
  };
  variable("FPRNN_WIDTH", "broad", "FPRNN_WIDTH");
  variable("FPRNN_OPEN", "", "[FPRNN_OPEN] open must be true or false, got ''");
  variable("FPRNN_LIS", "1", "[FPRNN_LIS] there is no such setting");
  variable("FPRNN_WIDHT", "3",
           "[FPRNN_WIDHT] there is no such setting (did you mean FPRNN_WIDTH?)");
  variable("FPRNN_seed", "3", "(did you mean FPRNN_SEED?)");

  const auto file = [](const std::string& named, const std::string& text) {
    check_refused<UsageError>(named, [&] { Program().settings.set_json(text, "the file"); });
  };
  file("the file", "{");
  file("the file", "");
  file("object", "[1]");
  file("there is no such setting, got", R"({"wide": 3})");
  file("there is no such setting (did you mean deep_er?)", R"({"deep-er": 3})");
  file("zero byte", std::string("{\"width\": 3}\0 and more", 23));
  file("nested deeply",
       "{\"list\": " + std::string(500'000, '[') + std::string(500'000, ']') + "}");
  file("repeat", R"({"width": 3, "width": 3})");
  file("width", R"({"width": "3"})");
  file("width", R"({"width": 3.0})");
  file("the file", R"({"width": 1e400})");
  file("width", R"({"width": 9223372036854775808})");
  file("seed", R"({"seed": -1})");
  file("rate", R"({"rate": null})");
  file("list", R"({"list": [1, "2"]})");
  file("list", R"({"list": [[1]]})");
  file("kind", R"({"kind": "c"})");
  file("open", R"({"open": 1})");
  file("only be a flag", R"({"what": "resume"})");
  file("the file", std::string(100'000, '['));
  const auto checkpoint = [](const std::string& named, const std::string& text) {
    check_refused<UsageError>(named, [&] { Program().settings.set({{"list", text}}, "state"); });
  };
  checkpoint("state", "");
  checkpoint("list", "[\"1\"]");
  checkpoint("zero byte", std::string("[1]\0[2]", 7));
  checkpoint("nested deeply", std::string(500'000, '[') + std::string(500'000, ']'));
}

TEST_CASE("settings: options become models, solvers and training, or are refused") {
  const Context context = Context::cpu({.threads = 1});  // what is made is not run
  Rng rng{.seed = 1};
  for (const ModelKind& kind : built_in_models().all())
    for (const MixerKindRow& row : mixer_kinds()) {
      const std::string& mixer = row.name;
      const auto made = named_model({{"model", kind.name},
                                     {"d_model", "8"},
                                     {"d_state", "4"},
                                     {"headdim", "4"},
                                     {"mixer", mixer}},
                                    7, {context, rng});
      CHECK(made->parameter_count() > 0);
      CHECK(made->layers().size() == 1);
    }
  CHECK(solver_options({}).solver == Solver::automatic);
  for (const char* solver : {"auto", "sequential", "parallel", "patience"})
    CHECK(name_of(solver_options({.solver = solver}).solver) == solver);
  CHECK_THROWS_AS(solver_options({.solver = "automatic"}), ValueError);
  CHECK(train_options({.iteration_cap = "16"}).iteration_cap.fixed == 16);
  CHECK(train_options({.iteration_cap = "gamma:4,1.5"}).iteration_cap.scale == 1.5);
  CHECK(train_options({.betas = "0.8,0.95"}).adamw.beta2 == 0.95);
  for (const char* cap :
       {"", "0", "-1", "16x", "gamma", "gamma:4", "gamma:0,1", "gamma:1.5,1", "gamma:4,1,2"})
    CHECK_THROWS_AS(train_options({.iteration_cap = cap}), ValueError);
  for (const char* betas : {"", "0.9", "0.9,", ",0.9", "0.9;0.99", "0.9,0.99,0.999"})
    CHECK_THROWS_AS(train_options({.betas = betas}), ValueError);
  CHECK_THROWS_AS(solver_options({.gradient = "two-step"}), ValueError);
  if (!gpu_is_there()) CHECK_THROWS_AS(open_device({.device = "cuda"}), DeviceError);
  CHECK_THROWS_AS(open_device({.device = "cpu", .matmul_precision = "tf32"}), ValueError);
  CHECK_THROWS_AS(open_device({.device = "cpu", .matmul_precision = "fp8"}), ValueError);
  CHECK_THROWS_AS(open_device({.threads = -1}), ValueError);
  // For a model that cannot compute on a GPU.
  CHECK_THROWS_AS(open_device({.device = "cuda"}, false), UsageError);
  CHECK(open_device({.device = "auto", .threads = 1}, false).device() == DeviceKind::cpu);
}

}  // namespace fprnn::tests
