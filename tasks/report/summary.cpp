// The files of run_groups.h that programs read.
#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/run_groups.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace fprnn {

namespace {

// RFC 4180: in quotes, doubled inside, where a comma, a quote or the end of a line is in it.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}
// Empty where there is none.
std::string csv_number(std::optional<double> number) {
  return number && std::isfinite(*number) ? fmt::format("{}", *number) : "";
}

using Json = nlohmann::ordered_json;

Json json_of(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

Json json_of(const Spread& spread) {
  Json object = {{"length", spread.length},
                 {"values", spread.values},
                 {"median", spread.median},
                 {"min", spread.least},
                 {"max", spread.most}};
  if (spread.solved) object["solved"] = *spread.solved;
  if (spread.solved) object["wilson_low"] = json_of(spread.interval.low);
  if (spread.solved) object["wilson_high"] = json_of(spread.interval.high);
  return object;
}

}  // namespace

std::string summary_csv(RunGroups groups) {
  const MainMetric metric = main_metric(groups);
  std::string text =
      "runs,length,metric,seeds,failed,median,min,max,solved,wilson_low,wilson_high\n";
  for (const RunGroup& group : groups)
    for (const Spread& spread : spreads(group, metric))
      text +=
          fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(group.name), spread.length,
                      csv_field(metric.name), group.seeds(), group.failed.size(),
                      csv_number(spread.median), csv_number(spread.least), csv_number(spread.most),
                      spread.solved ? fmt::format("{}", *spread.solved) : "",
                      csv_number(spread.interval.low), csv_number(spread.interval.high));
  return text;
}

std::string summary_json(RunGroups groups) {
  const MainMetric metric = main_metric(groups);
  Json all = {{"metric", metric.name}};
  if (metric.is_share) all["solved_from"] = kSolved;
  all["groups"] = Json::array();
  for (const RunGroup& group : groups) {
    Json seeds = Json::array(), lengths = Json::array();
    for (const RunResult& run : group.runs) seeds.push_back(run.evaluation.origin.seed);
    for (const Spread& spread : spreads(group, metric)) lengths.push_back(json_of(spread));
    all["groups"].push_back(
        {{"runs", group.name}, {"seeds", seeds}, {"failed", group.failed}, {"lengths", lengths}});
  }
  return all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fprnn
