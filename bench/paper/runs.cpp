#include "runs.h"

#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

namespace fprnn::paper {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kLongestLine = 1 << 16;

// With five digits, which keeps the file small, or more where these would make it 1; null for what is no
// number.
Json brief(double value) {
  if (!std::isfinite(value)) return {};
  const std::string text = fmt::format("{:.5g}", value + 0);
  return Json::parse(text == "1" ? share_text(value, 0) : text);
}
double number(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

Json json_of(const NamedValues& values) {
  Json object = Json::object();
  for (const auto& [name, value] : values) object[name] = brief(value);
  return object;
}

// Lengths as columns: names once, not at each length.
Json columns_of(const std::vector<LengthResult>& lengths) {
  Json columns = {{"length", Json::array()}, {"sequences", Json::array()}};
  const bool iterated = std::ranges::any_of(
      lengths, [](const LengthResult& result) { return result.iterations_max > 0; });
  for (const LengthResult& result : lengths) {
    columns["length"].push_back(result.length);
    columns["sequences"].push_back(result.sequences);
    for (const auto& [name, value] : result.metrics)
      columns["metrics"][name].push_back(brief(value));
    if (!iterated) continue;
    columns["iterations"].push_back(brief(result.iterations_mean));
    columns["iterations_max"].push_back(result.iterations_max);
    columns["unconverged"].push_back(result.unconverged);
  }
  return columns;
}

std::vector<LengthResult> lengths_of(const Json& columns, bool of_sequences) {
  std::vector<LengthResult> lengths;
  for (size_t i = 0; i < columns.at("length").size(); ++i) {
    LengthResult& result = lengths.emplace_back();
    result.length = columns.at("length").at(i);
    result.sequences = columns.at("sequences").at(i);
    if (columns.contains("metrics"))
      for (const auto& [name, values] : columns.at("metrics").items())
        result.metrics.emplace_back(name, number(values.at(i)));
    if (of_sequences && !result.metrics.empty())
      result.wilson =
          wilson_interval(result.metrics.front().second, static_cast<double>(result.sequences));
    if (!columns.contains("iterations")) continue;
    result.iterations_mean = number(columns.at("iterations").at(i));
    result.iterations_max = columns.at("iterations_max").at(i);
    result.unconverged = columns.at("unconverged").at(i);
  }
  return lengths;
}

Json json_of(const Run& run) {
  const Evaluation& e = run.evaluation;
  const Origin& origin = e.origin;
  Json json = {{"row", run.row},          {"label", run.label},       {"scale", run.scale},
               {"seed", run.seed},        {"command", run.command},   {"date", run.date},
               {"commit", origin.commit}, {"version", origin.version}};
  if (!run.failed.empty()) {
    json["failed"] = run.failed;
    return json;
  }
  json["gpu"] = origin.machine.gpu;
  json["instruction_set"] = origin.machine.instruction_set;
  json["task"] = e.task;
  for (const auto& [key, value] : e.settings) json["settings"][key] = value;
  json["model"] = e.model;
  json["parameters"] = e.parameters;
  json["device"] = e.device;
  json["solver"] = e.solver;
  json["gradient"] = e.gradient;
  json["train_length"] = e.train_length;
  json["steps"] = e.steps;
  json["seconds"] = brief(e.train_seconds);
  json["loss"] = brief(run.loss);
  json["iterations"] = brief(run.iterations);
  json["skipped"] = run.skipped;
  json["caption"] = e.caption;
  json["of_sequences"] = std::ranges::any_of(
      e.lengths, [](const LengthResult& result) { return result.wilson.low.has_value(); });
  json["lengths"] = columns_of(e.lengths);
  json["protocols"] = json_of(e.protocols.figures);
  return json;
}

Run run_of(const Json& json) {
  Run run{.row = json.at("row"),
          .label = json.at("label"),
          .scale = json.at("scale"),
          .seed = json.at("seed"),
          .command = json.at("command"),
          .date = json.at("date"),
          .failed = json.value("failed", "")};
  Evaluation& e = run.evaluation;
  e.origin = {.version = json.at("version"), .commit = json.at("commit"), .seed = run.seed};
  if (!run.failed.empty()) return run;
  e.origin.machine = {.gpu = json.at("gpu"), .instruction_set = json.at("instruction_set")};
  e.task = json.at("task");
  if (json.contains("settings"))
    for (const auto& [key, value] : json.at("settings").items())
      e.settings.emplace_back(key, value);
  e.model = json.at("model");
  e.parameters = json.at("parameters");
  e.device = json.at("device");
  e.solver = json.at("solver");
  e.gradient = json.at("gradient");
  e.train_length = json.at("train_length");
  e.steps = json.at("steps");
  e.train_seconds = number(json.at("seconds"));
  run.loss = number(json.at("loss"));
  run.iterations = number(json.at("iterations"));
  run.skipped = json.at("skipped");
  e.caption = json.at("caption");
  e.lengths = lengths_of(json.at("lengths"), json.at("of_sequences"));
  for (const auto& [name, value] : json.at("protocols").items())
    e.protocols.figures.emplace_back(name, number(value));
  return run;
}

bool same(const Run& a, const Run& b) {
  return a.row == b.row && a.label == b.label && a.scale == b.scale && a.command == b.command;
}

}  // namespace

std::string to_line(const Run& run) {
  return json_of(run).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Run run_from_line(const std::string& line, const std::string& source) {
  try {
    return run_of(Json::parse(line));
  } catch (const nlohmann::json::exception& error) {
    throw FormatError("runs", "a line must be a run: source and problem",
                      std::vector<std::string>{source, error.what()});
  }
}

std::vector<Run> read_runs(const std::string& path) {
  std::vector<Run> runs;
  int64_t count = 0;
  if (!fs::exists(path)) return runs;
  for_each_line(path, kLongestLine, [&](std::string_view line) {
    Run run = run_from_line(std::string(line), fmt::format("{}:{}", path, ++count));
    std::erase_if(runs, [&](const Run& other) { return same(run, other); });
    runs.push_back(std::move(run));
  });
  return runs;
}

void read_result(Run& run, const std::string& folder) {
  RunResult result = read_run(folder);
  run.evaluation = std::move(result.evaluation);
  if (result.metrics.empty()) return;
  run.loss = result.metrics.back().loss;
  run.iterations = result.metrics.back().iterations_mean;
  run.skipped = result.metrics.back().skipped;
}

std::string folder_of(const std::string& out, const std::string& label, uint64_t seed) {
  return fmt::format("{}/{}-{}", out, label, seed);
}

std::vector<Job> jobs_left(const Row& row, const std::vector<Run>& runs, const std::string& out) {
  const auto line_of = [&](const Entry& entry, uint64_t seed) -> const Run* {
    const Run wanted{.row = row.name,
                     .label = entry.label,
                     .scale = row.scale,
                     .command = row.command(entry, seed)};
    const auto found =
        std::ranges::find_if(runs, [&](const Run& run) { return same(run, wanted); });
    return found == runs.end() ? nullptr : &*found;
  };
  // Of a training that failed there is nothing to ask.
  const auto is_asked = [&](const Entry& entry, uint64_t seed) {
    const Run *trained = line_of(*row.entry(entry.of), seed), *asked = line_of(entry, seed);
    const bool is_behind = asked != nullptr && asked > trained;
    return trained != nullptr && (!trained->failed.empty() || is_behind);
  };
  const auto is_trained = [&](const Entry& entry, uint64_t seed) {
    const bool needed = std::ranges::any_of(row.entries, [&](const Entry& other) {
      return other.of == entry.label && !is_asked(other, seed);
    });
    return line_of(entry, seed) != nullptr &&
           (!needed || fs::exists(folder_of(out, entry.label, seed) + "/eval.json"));
  };
  std::vector<Job> jobs;
  for (const Entry& entry : row.entries)
    for (const uint64_t seed : row.seeds)
      if (!(entry.of.empty() ? is_trained(entry, seed) : is_asked(entry, seed)))
        jobs.push_back({&entry, seed});
  return jobs;
}

}  // namespace fprnn::paper
