// bench NAME [options]: measures one part of fprnn. bench --list names them; --json prints an array
// of objects. On a GPU the medians are of replayed graphs (bench.h).
#include "bench.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/tasks/options.h>
#include <fprnn/tasks/output.h>

#include <nlohmann/json.hpp>

namespace {

using namespace fprnn;
using namespace fprnn::bench;

struct Entry {
  Benchmark run;
  const char* what;
};
const std::map<std::string, Entry> kBenchmarks = {
    {"copy", {bench::copy, "copies that fit the CPU's second-level cache, a larger one and none"}},
    {"arithmetic",
     {arithmetic, "exponentials and multiply-adds a second of the CPU, at their peak"}},
    {"gemm", {bench::gemm, "matrix products; against OpenBLAS where built with FPRNN_OPENBLAS"}},
    {"scan", {bench::scan, "first-order scan, against a copy of as many bytes"}},
    {"selective-scan", {bench::selective_scan, "selective scan, against its roofline"}},
    {"ladder", {ladder, "the scan and the solver of a GPU, rung by rung (cuda/ladder)"}},
    {"layer", {bench::layer, "one layer, forward and with gradients (--model, sizes)"}},
    {"lengths", {lengths, "a fixed-point layer at 1,024 to 65,536 tokens, with either gradient"}},
    {"train", {bench::train, "one step of training a layer on A5 (--model, sizes)"}},
};

void print_json(const Context& context, const std::vector<Result>& results) {
  nlohmann::json array = nlohmann::json::array();
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
  print(fmt::format("{}\n", array.dump(2)));
}

void print_table(const Context& context, const std::vector<Result>& results) {
  print(fmt::format("device {}\n", describe(context)));
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

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Measures one part of fprnn: medians of several runs."};
  std::string name;
  bool json = false, list = false;
  bench::Options options;
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
  app.add_option("--model", options.model, "layer, train: mamba, fp-mamba or fp-rnn");
  app.add_option("--mixer", options.mixer, "layer, train: householder, dplr or kronecker");
  app.add_option("--rank", options.rank, "layer, train: rank of householder and dplr");
  app.add_option("--mixer-scale", options.mixer_scale,
                 "layer, train: 1 contracts at rank 1, 2 allows reflections");
  app.add_option("--solver", options.solver,
                 "layer, train: auto, sequential, parallel or patience");
  app.add_option("--gradient", options.gradient, "layer, train: one-step, neumann:K or exact");
  app.add_option("--tolerance", options.tolerance,
                 "layer, train: residual that the solver aims at");
  app.add_option("--max-iterations", options.max_iterations, "layer, train: the solver's cap");
  app.add_option("--d-model", options.d_model, "layer, train: width");
  app.add_option("--d-state", options.d_state, "layer, train: states of a channel");
  app.add_option("--batch", options.batch, "layer, train: sequences");
  app.add_option("--length", options.length,
                 "layer, train: tokens in a sequence; lengths: at most");
  try {
    open_standard_streams();
    app.parse(argc, argv);
    if (list) {
      for (const auto& [key, entry] : kBenchmarks)
        print(fmt::format("{:16} {}\n", key, entry.what));
      return 0;
    }
    const auto found = kBenchmarks.find(name);
    require<ValueError>(found != kBenchmarks.end(), "bench", "the name must be one of bench --list",
                        name);
    const Context context = open_device({.device = options.device,
                                         .matmul_precision = options.matmul_precision,
                                         .threads = options.threads});
    const auto results = found->second.run(context, options);
    if (json)
      print_json(context, results);
    else
      print_table(context, results);
    return 0;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return 2;
  } catch (const ValueError& error) {
    print_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
}
