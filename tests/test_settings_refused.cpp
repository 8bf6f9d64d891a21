// Settings that cannot work, or that the chosen model does not have, are refused before anything is made.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/options.h>
#include <fprnn/tasks/word_problem.h>

#include <algorithm>
#include <map>
#include <set>

#include "refused.h"
#include "variable.h"

namespace fprnn::tests {

namespace {

// What a task's program reads and checks before it writes anything, its model included.
struct TaskSettings {
  Options options;
  Settings settings;
  std::string group = "S3";

  void read(std::vector<std::string> arguments, const std::string& file = "",
            Says says = Says::user) {
    settings.title("Task", Decides::model);
    settings.add("group", group, "g");
    add_to(settings, options);
    std::vector<const char*> flags = {"program"};
    for (const std::string& argument : arguments) flags.push_back(argument.c_str());
    const CommandLine command{
        .about = "about",
        .presets = {{"small", "", {{"mixer", "dplr"}, {"rank", "2"}, {"state_dropout", "0.1"}}}},
        .preset = options.run.preset,
        .read_files = [&](Settings& s) {
          if (!file.empty()) s.set_json(file, "the file", says);
        }};
    const bool goes_on =
        read_command_line(static_cast<int>(flags.size()), flags.data(), command, settings);
    CHECK(goes_on);
    check(options, settings);
    const Context context = Context::cpu({.threads = 1});
    open_device({.device = "cpu", .threads = options.run.threads});
    Rng rng{.seed = options.train.numbers.seed};
    const WordProblem task(group_named(group));
    const auto model = options.model.make(task.vocabulary(), {context, rng});
    Training(*model, task, context, train_options(options.train));
  }
};

}  // namespace

TEST_CASE("settings: a name near a known one is suggested, a far one is not") {
  const std::vector<std::string> names = {"steps", "d_model", "fp-mamba", "mamba"};
  const std::pair<const char*, const char*> cases[] = {
      {"steps", "steps"},      {"stpes", "steps"},    {"step", "steps"},
      {"STEPS", "steps"},      {"stps", "steps"},     {"spt", ""},
      {"d-model", "d_model"},  {"dmodel", "d_model"}, {"manba", "mamba"},
      {"fpmamba", "fp-mamba"}, {"butterfly", ""},     {"", ""}};
  for (const auto& [name, wanted] : cases) CHECK(nearest(name, names) == wanted);
  const auto refused = [](const std::string& named, std::vector<std::string> arguments) {
    check_refused<Error>(named, [&] { TaskSettings().read(std::move(arguments)); });
  };
  refused("(did you mean fp-rnn?), got 'fp_rn'", {"--model", "fp_rn"});
  refused("(did you mean householder?)", {"--mixer", "housholder"});
  refused("(did you mean small?)", {"--preset", "smal"});
  refused("(did you mean A5?), got 'S3xa5'", {"--group", "S3xa5"});
}

TEST_CASE("settings: values that cannot work are refused before anything is made") {
  const std::vector<std::string> hostile = {
      "-1", "0", "nan", "inf", "1e39", "2147483648", "4611686018427387904", "9223372036854775808",
      ""};
  using Values = std::set<std::string>;
  const Values counts = {"0", "2147483648", "4611686018427387904"}, zero = {"0"}, none = {};
  const Values numbers = {"0", "2147483648", "4611686018427387904", "9223372036854775808"};
  const Values amounts = {"0", "1e39", "2147483648", "4611686018427387904", "9223372036854775808"};
  const Values any(hostile.begin(), hostile.end());
  const Values folders(hostile.begin(), hostile.end() - 1);  // any but an empty name
  // Which of these values each setting takes.
  std::map<std::string, Values> taken = {
      {"group", none},
      {"model", none},
      {"d_model", none},
      {"d_state", none},
      {"layers", none},
      {"expand", none},
      {"negative_eigenvalues", zero},
      {"headdim", none},
      {"ngroups", none},
      {"rmsnorm", zero},
      {"norm_before_gate", zero},
      {"d_has_hdim", zero},
      {"dt_min", numbers},
      {"dt_max", numbers},
      {"heads", none},
      {"head_dim", zero},
      {"expand_v", none},
      {"value_heads", zero},
      {"householder", none},
      {"forget_gate", zero},
      {"positions", none},
      {"rotary_pct", zero},
      {"rotary_base", {"1e39", "2147483648", "4611686018427387904", "9223372036854775808"}},
      {"hard_alibi_heads", zero},
      {"max_length", none},
      {"intermediate", zero},
      {"parallel_residual", zero},
      {"most_magnitude", numbers},
      {"damping", none},
      {"short_conv", zero},
      {"proj_factor", none},
      {"qkv_block", none},
      {"ffn", zero},
      {"ffn_width", zero},
      {"random_recurrent", zero},
      {"cell", none},
      {"epsilon", zero},
      {"max_steps", none},
      {"ponder_weight", numbers},
      {"dictionary_size", none},
      {"hidden_multiple", none},
      {"one_hot", none},
      {"initial_state", none},
      {"mixer", none},
      {"rank", none},
      {"mixer_scale", zero},
      {"mixer_normalisation", none},
      {"mixer_input", none},
      {"hidden_dependence", none},
      {"bc_norm", zero},
      {"additive_input", zero},
      {"glu_in_loop", zero},
      {"solver", none},
      {"gradient", none},
      {"tolerance", numbers},
      {"max_iterations", none},
      {"steps", {"2147483648"}},
      {"batch_size", none},
      {"accumulate", none},
      {"train_length", none},
      {"curriculum", none},
      {"lr", {"2147483648", "4611686018427387904", "9223372036854775808"}},
      {"schedule", none},
      {"end_lr", zero},
      {"warmup", counts},
      {"weight_decay", numbers},
      {"betas", none},
      {"clip", {"1e39", "2147483648", "4611686018427387904", "9223372036854775808"}},
      {"iteration_cap", none},
      {"state_dropout", zero},
      {"final_state_dropout", zero},
      {"state_keep", zero},
      {"dropout", zero},
      {"label_smoothing", zero},
      {"keep", none},
      {"seed", numbers},
      {"preset", {""}},
      {"time_limit", amounts},
      {"checkpoint_every", counts},
      {"eval_every", counts},
      {"log_every", counts},
      {"eval_lengths", none},
      {"eval_sequences", none},
      {"device", none},
      {"threads", zero},
      {"matmul_precision", none},
      {"out", any},
      {"config", any},
      {"resume", folders},
      {"evaluate", folders},
      {"predict", folders},
      {"compare", folders},
      {"dump", {"2147483648", "4611686018427387904"}},
      {"seeds", numbers},
      {"jobs", none}};
  if (kDouble)  // which holds what is infinite in float
    for (const char* key :
         {"tolerance", "lr", "weight_decay", "dt_min", "dt_max", "most_magnitude", "ponder_weight"})
      taken[key].insert("1e39");
  TaskSettings program;
  program.read({});
  for (const Setting& setting : program.settings.all()) {
    const std::string& key = setting.key;
    REQUIRE_MESSAGE(taken.contains(key), key);
    std::string flag = "--" + key;
    std::ranges::replace(flag, '_', '-');
    for (const std::string& value : hostile) {
      std::vector<std::string> arguments = {flag + "=" + value};
      if (value.empty()) arguments = {flag, value};
      if (key == "rank") arguments.insert(arguments.end(), {"--mixer", "householder"});
      if (key.starts_with("rotary_")) arguments.insert(arguments.end(), {"--positions", "rope"});
      if (key == "hard_alibi_heads")
        arguments.insert(arguments.end(), {"--positions", "hard-alibi"});
      if (const std::string of = "Model "; setting.title.starts_with(of))
        arguments.insert(arguments.end(), {"--model", setting.title.substr(of.size())});
      INFO(flag << " " << value);
      bool accepted = true;
      try {
        TaskSettings().read(arguments);
      } catch (const UsageError&) {
        accepted = false;
      } catch (const ValueError&) {
        accepted = false;
      }
      const bool on = setting.is_switch() && value.empty();  // as a switch with nothing behind it
      CHECK(accepted == (taken.at(key).contains(value) || on));
    }
  }
}

TEST_CASE("settings: combinations and forms that cannot work are refused too") {
  using Arguments = std::vector<std::string>;
  const std::pair<std::string, Arguments> refused[] = {
      {"2^20", {"--expand", "2305843009213693954"}},
      {"2^20", {"--expand", "1048576", "--d-model", "1048576"}},
      {"2^20", {"--model", "mamba", "--expand", "2305843009213693954"}},
      {"2^20", {"--model", "fp-rnn", "--expand", "2305843009213693954"}},
      {"4096 layers", {"--layers", "4294967296"}},
      {"2^31 tokens", {"--batch-size", "4611686018427387904", "--train-length", "3"}},
      {"2^31 tokens", {"--train-length", "2305843009213693951"}},
      {"2^31 tokens", {"--train-length", "9223372036854775807"}},
      {"2^31 tokens", {"--eval-sequences", "4611686018427387904"}},
      {"2^31 tokens", {"--eval-lengths", "16,2147483647"}},
      {"[keep]",
       {"--keep=best", "--eval-every=1", "--eval-sequences=200000000", "--eval-lengths=1"}},
      {"[eval_lengths]", {"--eval-lengths", "16,0"}},
      {"2^40 steps", {"--steps", "1099511627777"}},
      {"lr", {"--lr", kDouble ? "0" : "1e-50"}},
      {"2^31", {"--iteration-cap", "2147483648"}},
      {"Gamma", {"--iteration-cap", "gamma:4,-1"}},
      {"Gamma", {"--iteration-cap", "gamma:4,0"}},
      {"Gamma", {"--iteration-cap", "gamma:4,nan"}},
      {"Gamma", {"--iteration-cap", "gamma:4,inf"}},
      {"gamma", {"--iteration-cap", "gamma:nan,1"}},
      {"rate", {"--state-dropout", "1.5"}},
      {"must not fall in training: its first and its final rate, got 0.3 and 0.2",
       {"--state-dropout", "0.3", "--final-state-dropout", "0.2"}},
      {"betas", {"--betas", "nan,0.9"}},
      {"betas", {"--betas", "0.9,1"}},
      {"betas", {"--betas=-1,0.9"}},
      {"curriculum", {"--curriculum", "nan,0.5"}},
      {"curriculum", {"--curriculum", "2,nan"}},
      {"curriculum", {"--curriculum", "17,0.5"}},
      {"neumann", {"--gradient", "neumann:-1"}},
      {"neumann", {"--gradient", "neumann:2147483648"}},
      {"rank", {"--mixer", "dplr", "--rank", "129"}},
      {"run directory", {"--compare", ","}}};
  for (const auto& entry : refused) {
    const Arguments& arguments = entry.second;
    INFO(arguments[0] << " " << arguments.back());
    check_refused<Error>(entry.first, [&] { TaskSettings().read(arguments); });
  }
  // What a run has written is checked as flags are.
  check_refused<ValueError>("rate",
                            [] { TaskSettings().read({}, R"({"state_dropout": -1})", Says::run); });
}

TEST_CASE(
    "settings: an option that the chosen model does not have is refused where the user names it") {
  using Arguments = std::vector<std::string>;
  const auto refused = [](const std::string& named, Arguments arguments,
                          const std::string& file = "") {
    INFO(named);
    check_refused<UsageError>(named, [&] { TaskSettings().read(std::move(arguments), file); });
  };
  refused("[command line] mamba has no mixer", {"--model", "mamba", "--mixer", "kronecker"});
  for (const char* flag :
       {"--rank=1", "--mixer-scale=1", "--mixer-normalisation=row", "--solver=auto",
        "--mixer-input=symmetric", "--hidden-dependence=none", "--bc-norm=true", "--glu-in-loop",
        "--gradient=exact", "--tolerance=1", "--short-conv", "--max-iterations=1",
        "--iteration-cap=1", "--state-dropout=0"})
    refused("mamba has no ", {"--model", "mamba", flag});
  for (const char* flag : {"--d-state=4", "--bc-norm=false", "--glu-in-loop", "--state-dropout=0"})
    refused("fp-rnn has no ", {"--model", "fp-rnn", flag});
  refused("fp-rnn has no hidden_dependence but q and none",
          {"--model", "fp-rnn", "--hidden-dependence", "q,b"});
  refused("kronecker has no rank", {"--mixer", "kronecker", "--rank", "2"});
  refused("dplr has no mixer_normalisation", {"--mixer", "dplr", "--mixer-normalisation", "row"});
  refused("patience has no tolerance", {"--solver", "patience", "--tolerance", "1e-3"});
  refused("a constant schedule has no end_lr", {"--schedule", "constant", "--end-lr", "1e-5"});
  refused("[the file] mamba has no rank", {"--model", "mamba"}, R"({"rank": 2})");
  refused("[the file] mamba has no rank", {}, R"({"rank": 2, "model": "mamba"})");
  {
    const Variable solver("FPRNN_SOLVER", "parallel");
    refused("[FPRNN_SOLVER] mamba has no solver", {"--model", "mamba"});
  }

  // A preset says more than one model needs, and the record of a run all there is.
  TaskSettings preset;
  preset.read({"--model", "mamba", "--preset", "small", "--layers", "2", "--d-state", "4"});
  TaskSettings().read({"--model", "fp-rnn", "--hidden-dependence", "q", "--mixer", "kronecker",
                       "--mixer-normalisation", "both", "--preset", "small"});
  const std::string record = preset.settings.to_json();
  TaskSettings().read({}, record, Says::run);
  TaskSettings().read({}, record);
  TaskSettings().read({"--model", "fp-rnn"}, record);
  TaskSettings().read({}, R"({"model": "mamba", "rank": 2})", Says::run);
  refused("[command line] mamba has no rank", {"--rank", "2"}, record);
}

}  // namespace fprnn::tests
