// bench NAME [options]: measures one part of fprnn. bench --list names them; --json prints an array
// of objects. On a GPU the medians are of replayed graphs (bench.h).
#include "bench.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/run/command_line.h>
#include <fprnn/tasks/run/options.h>
#include <fprnn/tasks/run/output.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace {

using namespace fprnn;
using namespace fprnn::bench;

struct Entry {
  Benchmark run;
  const char* what;
  bool solves = false;  // of a model with fixed points alone
  bool each = false;    // of the models named, or all of them, one after the other
};
const std::map<std::string, Entry> kBenchmarks = {
    {"copy", {bench::copy, "copies that fit the CPU's second-level cache, a larger one and none"}},
    {"arithmetic",
     {arithmetic, "exponentials and multiply-adds a second of the CPU, at their peak"}},
    {"gemm", {bench::gemm, "matrix products; against OpenBLAS where built with FPRNN_OPENBLAS"}},
    {"scan", {bench::scan, "first-order scan, against a copy of as many bytes"}},
    {"selective-scan", {bench::selective_scan, "selective scan, against its roofline"}},
    {"gated", {bench::gated, "the sweeps of an LSTM and of an sLSTM"}},
    {"delta-rule", {bench::delta_rule, "gated delta rule, against a copy of as many bytes"}},
    {"ssd-scan", {bench::ssd_scan, "Mamba-2's scan, against a copy of as many bytes"}},
    {"mlstm", {bench::mlstm, "the mLSTM, against a copy of as many bytes"}},
    {"attention", {bench::attention, "causal attention, of a sequence and of its last token"}},
    {"ladder", {ladder, "the scan and the solver of a GPU, rung by rung (cuda/ladder)"}},
    {"layer", {bench::layer, "one layer, forward and with gradients (--model, sizes)"}},
    {"lengths",
     {lengths, "a fixed-point layer at 1,024 to 65,536 tokens, with either gradient", true}},
    {"train", {bench::train, "one step of training a layer on A5 (--model, sizes)"}},
    {"models",
     {bench::train, "train for every model, or for --model A,B,.. one after the other", false,
      true}},
    {"decode", {bench::decode, "one more token of one sequence, 8 layers, as models", false, true}},
};

void add_json(const Context& context, const std::vector<Result>& results, nlohmann::json& array) {
  for (const Result& r : results) {
    nlohmann::json object{{"name", r.name},
                          {"parameters", r.parameters},
                          {"device", describe(context)},
                          {"threads", context.threads()},
                          {"milliseconds", r.milliseconds},
                          {"runs", r.runs},
                          {"timed", r.how}};
    if (r.tokens_per_second > 0) object["tokens_per_second"] = r.tokens_per_second;
    if (r.gigabytes_per_second > 0) object["gigabytes_per_second"] = r.gigabytes_per_second;
    if (r.gigaflops > 0) object["gigaflops"] = r.gigaflops;
    if (r.limit_milliseconds > 0) {
      object["limit_milliseconds"] = r.limit_milliseconds;
      object["percent_of_limit"] = 100 * r.limit_milliseconds / r.milliseconds;
    }
    array.push_back(std::move(object));
  }
}

void print_rows(const std::vector<Result>& results) {
  for (const Result& r : results) {
    std::string parameters;
    for (const auto& [name, value] : r.parameters)
      parameters += fmt::format(" {} {},", name, value);
    if (!parameters.empty()) parameters.pop_back();
    std::string rate = r.tokens_per_second > 0 ? fmt::format("{:.0f} tokens/s", r.tokens_per_second)
                       : r.gigabytes_per_second > 0
                           ? fmt::format("{:.1f} GB/s", r.gigabytes_per_second)
                           : fmt::format("{:.1f} GFLOP/s", r.gigaflops);
    if (r.limit_milliseconds > 0)
      rate += fmt::format("  {:.0f} % of the limit", 100 * r.limit_milliseconds / r.milliseconds);
    if (r.how != "calls") rate += "  (" + r.how + ")";
    print(fmt::format("{:29}{:52} {:>10.4f} ms  {}\n", r.name, parameters, r.milliseconds, rate));
  }
}

struct Program {
  CLI::App app{
      "Measures one part of fprnn: medians of several runs. --model X --help shows X's settings."};
  std::string name;
  bool json = false, list = false;
  bench::Options options;
  ModelSettings model;
  Settings settings;  // the model's
  Said said;          // of them

  Program();
  int run(int argc, char** argv);

 private:
  std::vector<std::string> read_models(const Entry& entry);
  void measure(Benchmark what);
  void measure_each(Benchmark what, const std::vector<std::string>& models);
  void show(const Context& context, const std::vector<Result>& results);

  nlohmann::json array_ = nlohmann::json::array();
  std::string device_;  // of the rows above
};

Program::Program() {
  app.add_option("name", name, "What to measure");
  app.add_flag("--list", list, "Name what can be measured");
  app.add_flag("--json", json, "Print one JSON array");
  app.add_flag("--full", options.full, "gemm: every size of the table");
  app.add_option("--device", options.device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--matmul-precision", options.matmul_precision,
                 "What a GPU's products round to: fp32, tf32 or bf16");
  app.add_option("--threads", options.threads, "CPU threads, 0 for all cores");
  app.add_option("--runs", options.runs, "Runs that the median is over")
      ->check(CLI::Range(1, 10000));
  app.add_option("--batch", options.batch, "layer, train, models: sequences");
  app.add_option(
      "--length", options.length,
      "layer, train, models: tokens in a sequence; lengths: at most; decode: read before");
  model.d_model = model.layers = 0;  // what the benchmark has by itself
  model.add_to(settings);
  settings.set(Preset{
      "of bench", "", {{"model", "mamba"}, {"mixer", "householder"}, {"solver", "sequential"}}});
  add_flags(app, settings, said);
  options.model = &model;
  options.settings = &settings;
}

// What the command line says of the model; of fixed points, if it names none, the first with them.
// The models to go through one after the other, if it is a benchmark of such.
std::vector<std::string> Program::read_models(const Entry& entry) {
  if (entry.solves && !model.any_has(&ModelKind::solver))
    model.model = std::ranges::find(model.models().all(), true, &ModelKind::solver)->name;
  std::vector<std::string> models;
  if (entry.each) {
    const auto named = said.extract("model");
    models = named.empty() ? model.models().names() : split(named.mapped(), ',');
  }
  for (const std::string& each : models) model.models().at(each);
  for (const auto& [key, text] : said) settings.set(key, text, "command line");
  return models;
}

void Program::show(const Context& context, const std::vector<Result>& results) {
  if (json) return add_json(context, results, array_);
  const std::string device = describe(context);
  if (device != device_) print(fmt::format("device {}\n", device));
  device_ = device;
  print_rows(results);
}

// Of the model as it is now, in a Context of its own: what its memory held at most is of this model.
void Program::measure(Benchmark what) {
  model.check();
  settings.check(model.model);
  const Context context = open_device({.device = options.device,
                                       .matmul_precision = options.matmul_precision,
                                       .threads = options.threads},
                                      !model.any_has(&ModelKind::cpu_only));
  show(context, what(context, options));
}

// A model that cannot says why, and the next one follows.
void Program::measure_each(Benchmark what, const std::vector<std::string>& models) {
  for (const std::string& each : models) {
    model.model = each;
    try {
      measure(what);
    } catch (const Error& error) {
      if (json)
        array_.push_back(
            {{"name", name}, {"parameters", {{"model", each}}}, {"refused", error.what()}});
      else
        print(fmt::format("{:29} model {}: {}\n", name, each, error.what()));
    }
  }
}

int Program::run(int argc, char** argv) {
  open_standard_streams();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    prepare_help(app, settings, said, "model");
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return 2;
  }
  if (list) {
    for (const auto& [key, entry] : kBenchmarks) print(fmt::format("{:16} {}\n", key, entry.what));
    return 0;
  }
  const auto found = kBenchmarks.find(name);
  require<ValueError>(found != kBenchmarks.end(), "bench", "the name must be one of bench --list",
                      name);
  const std::vector<std::string> models = read_models(found->second);
  if (found->second.each)
    measure_each(found->second.run, models);
  else
    measure(found->second.run);
  if (json) print(fmt::format("{}\n", array_.dump(2)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Program().run(argc, argv);
  } catch (const ValueError& error) {
    print_error(error.what());
    return 2;
  } catch (const UsageError& error) {
    print_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
}
