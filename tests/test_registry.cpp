// Models by name: what each has, stacks of several, and a model that the library does not know.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fprnn/models/modules.h>
#include <fprnn/models/saved_model.h>
#include <fprnn/ops/elementwise.h>
#include <fprnn/ops/layout.h>
#include <fprnn/ops/reduce.h>
#include <fprnn/tasks/run/evaluate.h>
#include <fprnn/tasks/run/program.h>
#include <fprnn/tasks/word_problem.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "close.h"
#include "folder.h"
#include "named_model.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

// out_t = W (x_t + gain x_{t-1}): a model of one's own.
class Echo : public Layer {
 public:
  Echo(Module& parent, std::string name, const Init& init, int64_t d_model, double gain,
       int64_t index)
      : Layer(parent, std::move(name)),
        gain_(static_cast<real>(gain)),
        index(index),
        linear_(*this, "linear", init, d_model, d_model) {}

 protected:
  Var evaluate(const Var& x, LayerState* state, const Conditions&) override {
    const Shape last{x.size(0), 1, x.size(2)};
    const bool carried = state != nullptr && !state->empty();
    if (carried) check_state("echo", *state, {&last, 1});
    const Var before = carried ? Var(state->front()) : Var(zeros(x.context(), last));
    const int64_t T = x.size(1);
    const Var past = T == 1 ? before : concat({before, slice(x, 1, 0, T - 1)}, 1);
    if (state != nullptr) *state = {clone(slice(x, 1, T - 1, T).value())};
    return linear_.forward(add(x, affine(past, gain_, 0)));
  }

 private:
  real gain_;

 public:
  const int64_t index;

 private:
  Linear linear_;
};

ModelKind echo_kind() {
  return {.name = "echo", .about = "Hears itself", .declare = [](Settings& settings) -> LayerMaker {
            struct Own {
              double gain = 0.5;
              int64_t d_state = 3;  // a key that others have too, with another default
            };
            const auto own = std::make_shared<Own>();
            settings.add("gain", own->gain, "Of the echo");
            settings.add("d_state", own->d_state, "Nothing");
            return
                [own](Module& parent, std::string name, const Init& init, const LayerPlace& place) {
                  return std::make_unique<Echo>(parent, std::move(name), init, place.d_model,
                                                own->gain, place.index);
                };
          }};
}

ModelRegistry with_echo() {
  ModelRegistry models = built_in_models();
  models.add(echo_kind());
  return models;
}

struct Tracking : TaskProgram {
  std::string group = "S3";
  std::string name() const override { return "tracking"; }
  std::string about() const override { return "Tracks."; }
  KeyTexts defaults() const override { return {{"steps", "3"}, {"mixer", "householder"}}; }
  void add_to(Settings& settings) override {
    settings.title("Task", Decides::model);
    settings.add("group", group, "g");
  }
  std::unique_ptr<Task> task() const override {
    return std::make_unique<WordProblem>(group_named(group));
  }
};

// What is printed goes into files, for as long as this lives.
class StreamsInto {
 public:
  StreamsInto(const std::string& out, const std::string& err) {
    std::fflush(stdout);
    into(1, out);
    into(2, err);
  }
  ~StreamsInto() {
    std::fflush(stdout);
    for (const int stream : {1, 2}) {
      dup2(before_[stream], stream);
      close(before_[stream]);
    }
  }

 private:
  void into(int stream, const std::string& path) {
    before_[stream] = dup(stream);
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, stream);
    close(file);
  }
  int before_[3] = {};
};

// The exit code of the program; what it prints goes to the files out and err of the folder.
int run(const Folder& folder, std::vector<std::string> arguments) {
  std::vector<const char*> flags = {"tracking"};
  for (const std::string& argument : arguments) flags.push_back(argument.c_str());
  Tracking program;
  const StreamsInto streams(folder.file("out"), folder.file("err"));
  return run_program(static_cast<int>(flags.size()), flags.data(), program, with_echo());
}

const std::vector<std::string> kTiny = {
    "--device=cpu",   "--threads=1",        "--d-model=8",
    "--batch-size=4", "--train-length=3",   "--eval-lengths=3,5",
    "--log-every=1",  "--eval-sequences=4", "--checkpoint-every=0"};
std::vector<std::string> tiny(std::vector<std::string> more) {
  more.insert(more.end(), kTiny.begin(), kTiny.end());
  return more;
}

}  // namespace

TEST_CASE("registry: names are unique, and unknown ones are refused with the nearest") {
  ModelRegistry models = built_in_models();
  for (const char* name : {"fp-mamba", "fp-rnn", "mamba"}) CHECK(models.at(name).name == name);
  for (const ModelKind& kind : models.all()) CHECK(!kind.about.empty());
  models.add(echo_kind());
  CHECK(models.at("echo").about == "Hears itself");
  CHECK_THROWS_AS(models.add(echo_kind()), ValueError);
  for (const char* name : {"", "a,b"}) {
    ModelKind kind = echo_kind();
    kind.name = name;
    CHECK_THROWS_AS(models.add(kind), ValueError);
  }
  check_refused<ValueError>("(did you mean mamba?)", [&] { models.at("mmaba"); });
  CHECK(built_in_models().all().size() + 1 == models.all().size());
}

TEST_CASE("registry: every model steps as it reads, alone and in a stack of all") {
  const Context context = test_context();
  std::string all;
  std::vector<std::string> stacks;
  for (const ModelKind& kind : kinds_here(with_echo())) {
    stacks.push_back(kind.name);
    all += (all.empty() ? "" : ",") + kind.name;
  }
  stacks.push_back(all);
  const size_t layers = stacks.size();  // one more than there are models
  for (const std::string& stack : stacks) {
    INFO(stack);
    NamedModel named({{"model", stack},
                      {"layers", std::to_string(layers)},
                      {"d_model", "8"},
                      {"d_state", "4"},
                      {"headdim", "4"},
                      {"mixer_scale", "1"},
                      {"tolerance", kDouble ? "1e-13" : "1e-6"}},
                     with_echo());
    Rng rng{.seed = 3};
    const auto model = named.model.make(7, {context, rng});
    model->parameter("embedding.weight").value = random(context, {7, 8}, 5);
    CHECK(model->layers().size() == layers);
    const std::vector<int32_t> tokens = {1, 2, 6, 0, 3, 5, 4, 1, 1, 2};  // (2, 5)
    NoGrad tape(context);
    const std::vector<real> whole =
        model->forward(tape, IntTensor(context, {2, 5}, tokens)).value().to_vector();
    SequenceModel::State state;
    for (int64_t t = 0; t < 5; ++t) {
      const std::vector<int32_t> now = {tokens[t], tokens[5 + t]};
      const std::vector<real> logits = model->step(state, IntTensor(context, {2}, now)).to_vector();
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t v = 0; v < 7; ++v)
          CHECK(logits[b * 7 + v] ==
                doctest::Approx(whole[(b * 5 + t) * 7 + v]).epsilon(kDouble ? 1e-8 : 1e-3));
    }
  }
}

TEST_CASE(
    "registry: gradients reach every parameter of every model and of stacks of several kinds") {
  const Context context = test_context();
  std::vector<std::string> stacks = built_in_models().names();
  for (const char* several : {"mamba,lstm", "pd-ssm,fp-mamba", "act,mamba2"})
    stacks.push_back(several);
  for (const std::string& stack : stacks) {
    NamedModel named({{"model", stack},
                      {"layers", "2"},
                      {"d_model", "8"},
                      {"d_state", "4"},
                      {"headdim", "4"},
                      {"mixer_scale", "1"}});
    Rng rng{.seed = 3};
    const auto model = named.model.make(7, {context, rng});
    Tape tape(context);
    const IntTensor tokens(context, {2, 4}, std::vector<int32_t>{1, 2, 6, 0, 4, 3, 5, 5});
    const Var logits = model->forward(tape, tokens);
    tape.backward(sum(mul(logits, random(context, logits.shape(), 5))));
    for (const auto& entry : model->parameters()) {
      const std::string where = stack + ": " + entry.path;
      REQUIRE_MESSAGE(entry.parameter->gradient.defined(), where);
      const real largest = max_abs(entry.parameter->gradient);
      CHECK_MESSAGE((std::isfinite(largest) && largest > 0), where);
    }
  }
}

TEST_CASE("registry: no model takes a state with more parts than its own, though none is there") {
  const Context context = test_context();
  for (const ModelKind& kind : kinds_here()) {
    INFO(kind.name);
    NamedModel named({{"model", kind.name}, {"d_model", "8"}, {"headdim", "4"}}, built_in_models());
    Rng rng;
    const auto model = named.model.make(7, {context, rng});
    LayerState other(7);
    CHECK_THROWS_AS(model->layers()[0]->forward(zeros(context, {2, 1, 8}), other), UsageError);
  }
}

TEST_CASE("registry: layer i of a stack is of kind i mod their number, and knows its place") {
  const Context context = test_context();
  NamedModel named({{"model", "mamba,echo"}, {"layers", "5"}}, with_echo());
  Rng rng;
  const auto model = named.model.make(3, {context, rng});
  for (int64_t i = 0; i < 5; ++i) {
    const auto* echo = dynamic_cast<const Echo*>(model->layers()[i]);
    CHECK((echo != nullptr) == (i % 2 == 1));
    if (echo != nullptr) CHECK(echo->index == i);
  }
  NamedModel few({{"model", "mamba,echo"}}, with_echo());
  check_refused<ValueError>("a layer for each kind", [&] { few.model.check(); });
  std::string names;
  for (const std::string& name : built_in_models().names())
    names += (names.empty() ? "" : ", ") + name;
  check_refused<UsageError>("must be " + names + " (did you mean mamba?)", [] {
    NamedModel({{"model", "fp-rnn,mmaba"}}, built_in_models());
  });
  for (const char* wrong : {"", ",", "mamba,", ",mamba"})
    CHECK_THROWS_AS(NamedModel({{"model", wrong}}, built_in_models()), UsageError);
}

TEST_CASE("registry: models share a key, with a default of their own") {
  const auto written = [](const KeyTexts& values) {
    return NamedModel(values, with_echo()).settings.values({Decides::model});
  };
  CHECK(written({{"model", "mamba"}}).at("d_state") == "16");
  CHECK(written({{"model", "echo"}}).at("d_state") == "3");
  CHECK(!written({{"model", "mamba"}}).contains("gain"));
  // Both defaults hold, so that neither may be written for the other; what is said holds for both.
  CHECK(!written({{"model", "mamba,echo"}}).contains("d_state"));
  CHECK(written({{"model", "mamba,echo"}, {"d_state", "5"}}).at("d_state") == "5");
  CHECK(!written({{"model", "fp-rnn"}}).contains("d_state"));
}

TEST_CASE("registry: --help says how to see a model's settings, --model X --help shows X's") {
  const Folder folder;
  const auto help = [&](std::vector<std::string> arguments) {
    arguments.push_back("--help");
    CHECK(run(folder, std::move(arguments)) == 0);
    return file_bytes(folder.file("out"));
  };
  const auto has = [](const std::string& text, const std::string& flag) {
    return text.find("--" + flag + " ") != std::string::npos ||
           text.find("--" + flag + "=") != std::string::npos;
  };
  const std::string plain = help({});
  CHECK(plain.find("--model X --help") != std::string::npos);
  for (const ModelKind& kind : with_echo().all())
    CHECK(plain.find(kind.about) != std::string::npos);
  for (const char* common : {"group", "model", "d-model", "layers", "steps", "lr", "out"})
    CHECK_MESSAGE(has(plain, common), std::string(common));
  for (const char* own : {"d-state", "gain", "mixer", "solver", "tolerance", "iteration-cap"})
    CHECK_MESSAGE(!has(plain, own), std::string(own));

  const std::pair<const char*, std::vector<const char*>> own[] = {
      {"mamba", {"d-state", "expand"}},
      {"echo", {"d-state", "gain"}},
      {"fp-rnn", {"expand", "mixer", "rank", "hidden-dependence", "solver", "iteration-cap"}},
      {"fp-mamba",
       {"d-state", "expand", "mixer", "rank", "hidden-dependence", "bc-norm", "solver",
        "iteration-cap", "state-dropout"}},
      {"mamba,echo", {"d-state", "expand", "gain"}}};
  const std::vector<const char*> all = {
      "d-state",           "gain",    "expand", "mixer",         "rank",
      "hidden-dependence", "bc-norm", "solver", "iteration-cap", "state-dropout"};
  for (const auto& entry : own) {
    const std::vector<const char*>& flags = entry.second;
    const std::string text = help({"--model", entry.first});
    for (const char* flag : {"group", "model", "d-model", "steps"}) CHECK(has(text, flag));
    for (const char* flag : all)
      CHECK_MESSAGE(
          has(text, flag) == (std::ranges::find(flags, std::string_view(flag)) != flags.end()),
          entry.first, " ", flag);
  }
  CHECK(help({"--model=echo"}).find("--d-state=3 ") != std::string::npos);  // its own default
  CHECK(help({"--model=mamba"}).find("--d-state=16 ") != std::string::npos);
  CHECK(help({"--model=fp-rnn"}).find("--mixer=householder ") != std::string::npos);  // the task's
  CHECK(run(folder, {"--model", "ecko", "--help"}) == 2);
}

TEST_CASE("registry: an option that a model does not have is refused in its name") {
  const Folder folder;
  const auto refused = [&](const std::string& words, std::vector<std::string> arguments) {
    INFO(words);
    arguments.push_back("--out=" + folder.file("no"));
    CHECK(run(folder, tiny(std::move(arguments))) == 2);
    CHECK(file_bytes(folder.file("err")).find(words) != std::string::npos);
    CHECK(!std::filesystem::exists(folder.file("no")));
  };
  refused("[command line] echo has no mixer", {"--model=echo", "--mixer=dplr"});
  refused("[command line] echo has no solver", {"--model=echo", "--solver=auto"});
  refused("[command line] echo has no state_dropout", {"--model=echo", "--state-dropout=0"});
  refused("[command line] mamba has no gain", {"--model=mamba", "--gain=1"});
  refused("[command line] fp-mamba has no gain", {"--gain=1"});
  refused("[command line] mamba,echo has no mixer",
          {"--model=mamba,echo", "--layers=2", "--mixer=dplr"});
  refused("a layer for each kind", {"--model=mamba,echo"});
}

TEST_CASE("registry: a model of one's own trains, resumes and is evaluated as the library's") {
  const Folder folder;
  for (const std::string model : {"echo", "echo,fp-mamba"}) {
    INFO(model);
    const std::string out = folder.file(model), again = folder.file(model + " again");
    std::vector<std::string> arguments = tiny({"--model=" + model, "--gain=0.25", "--layers=2"});
    arguments.push_back("--out=" + out);
    REQUIRE(run(folder, arguments) == 0);
    CHECK(file_bytes(out + "/config.json").find("\"gain\": 0.25") != std::string::npos);
    CHECK(file_bytes(out + "/eval.json").find("\"model\": \"" + model + "\"") != std::string::npos);
    REQUIRE(run(folder, tiny({"--evaluate=" + out, "--out=" + again})) == 0);
    const std::vector<LengthResult> lengths = read_run(out).evaluation.lengths;
    CHECK(lengths == read_run(again).evaluation.lengths);
    const Context context = Context::cpu();
    const auto loaded = load_model(latest_checkpoint(out), context, with_echo());
    CHECK(lengths[0] == evaluate(*loaded, *Tracking().task(), context, /*seed=*/0, 3, 4));
    CHECK(run(folder, {"--resume=" + out}) == 0);
    CHECK(run(folder, {"--resume=" + out, "--gain=1"}) == 2);
    CHECK(file_bytes(folder.file("err")).find("gain ('0.25' there and '1.0' here)") !=
          std::string::npos);
  }
}

// Until models had settings of their own, all were written for every model.
TEST_CASE("registry: a run of before, with settings of other models, is still read") {
  const Folder folder;
  const std::string out = folder.file("run");
  std::vector<std::string> arguments = tiny({"--model=mamba", "--d-state=4", "--out=" + out});
  REQUIRE(run(folder, arguments) == 0);
  const auto edit = [](const std::string& path, const std::string& from, const std::string& to) {
    std::string text = file_bytes(path);
    REQUIRE(text.find(from) != std::string::npos);
    write_file(path, text.replace(text.find(from), from.size(), to));
  };
  edit(out + "/config.json", "\"model\"",
       R"("mixer": "dplr", "rank": 2, "solver": "auto", "state_dropout": 0.1, "model")");
  const std::string latest = file_bytes(out + "/LATEST");
  edit(
      out + "/" + latest.substr(0, latest.find('\n')) + "/state.json", "\"model\"",
      R"("mixer": "\"dplr\"", "rank": "2", "solver": "\"auto\"", "state_dropout": "0.1", "model")");
  CHECK(run(folder, {"--resume=" + out}) == 0);
  CHECK_MESSAGE(run(folder, {"--evaluate=" + out, "--device=cpu"}) == 0,
                file_bytes(folder.file("err")));
  CHECK(run(folder, {"--config=" + out + "/config.json", "--out=" + folder.file("b")}) == 0);
  CHECK(run(folder, {"--resume=" + out, "--d-state=5"}) == 2);
  CHECK(run(folder, {"--resume=" + out, "--mixer=dplr"}) == 2);
}

}  // namespace fprnn::tests
