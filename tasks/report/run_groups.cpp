#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/run_groups.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace fprnn {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

bool differ_by_seed_alone(const RunResult& a, const RunResult& b) {
  Origin x = a.evaluation.origin, y = b.evaluation.origin;
  const bool seeds_differ = x.seed != y.seed;
  x.seed = y.seed;
  return seeds_differ && !a.configuration.empty() && a.configuration == b.configuration && x == y &&
         a.evaluation.task == b.evaluation.task && a.evaluation.device == b.evaluation.device;
}

std::string name_of(const std::vector<RunResult>& runs) {
  if (runs.size() == 1) return runs.front().name;
  std::vector<std::string> names;
  for (const RunResult& run : runs) names.push_back(run.name);
  std::string name = names.front().substr(0, common_beginning(names));
  const auto trim = [&] { name.resize(name.find_last_not_of(" _-./,") + 1); };
  trim();
  if (name.ends_with("seed")) name.resize(name.size() - 4);
  trim();
  return name.empty() ? runs.front().evaluation.model : name;
}

std::vector<RunResult> all_runs(RunGroups groups) {
  std::vector<RunResult> all;
  for (const RunGroup& group : groups) all.insert(all.end(), group.runs.begin(), group.runs.end());
  return all;
}

// The median of a member over things of which each has it as a number.
template <class T, class Member>
auto median_of(const std::vector<const T*>& things, Member member) {
  std::vector<double> values;
  for (const T* thing : things) values.push_back(static_cast<double>(thing->*member));
  using Number = std::remove_cvref_t<decltype(things.front()->*member)>;
  const double value = median(std::move(values));
  if constexpr (std::integral<Number>)
    return static_cast<Number>(std::llround(std::min(value, 9e18)));
  else
    return value;
}

template <class T>
T median_iterations(const std::vector<const T*>& of) {
  T result;
  result.iterations_mean = median_of(of, &T::iterations_mean);
  result.iterations_max = median_of(of, &T::iterations_max);
  result.residual_max = median_of(of, &T::residual_max);
  return result;
}

std::vector<StepMetrics> median_steps(const std::vector<RunResult>& runs) {
  std::map<int64_t, std::vector<const StepMetrics*>> by_step;
  for (const RunResult& run : runs)
    for (const StepMetrics& step : run.metrics) by_step[step.step].push_back(&step);
  std::vector<StepMetrics> steps;
  for (const auto& [step, of] : by_step) {
    StepMetrics& now = steps.emplace_back(median_iterations(of));
    now.step = step;
    now.loss = median_of(of, &StepMetrics::loss);
    now.accuracy = median_of(of, &StepMetrics::accuracy);
  }
  return steps;
}

std::vector<LengthResult> median_lengths(const RunGroup& group, const MainMetric& metric) {
  std::vector<LengthResult> lengths;
  for (const Spread& spread : spreads(group, metric)) {
    std::vector<const LengthResult*> of;
    for (const RunResult& run : group.runs)
      for (const LengthResult& result : run.evaluation.lengths)
        if (result.length == spread.length) of.push_back(&result);
    LengthResult& now = lengths.emplace_back(median_iterations(of));
    now.length = spread.length;
    now.metrics = {{metric.name, spread.median}};
    for (const LengthResult* result : of) {
      now.sequences += result->sequences;
      now.unconverged += result->unconverged;
    }
  }
  return lengths;
}

RunResult as_one(const RunGroup& group, const MainMetric& metric) {
  if (group.seeds() == 1 && group.runs.size() == 1) return group.runs.front();
  RunResult one;
  if (!group.runs.empty()) one.evaluation = group.runs.front().evaluation;
  one.name = fmt::format("{} ({} seeds)", group.name, group.seeds());
  one.evaluation.lengths = median_lengths(group, metric);
  std::vector<double> seconds;
  for (const RunResult& run : group.runs) seconds.push_back(run.evaluation.train_seconds);
  one.evaluation.train_seconds = median(std::move(seconds));
  one.metrics = median_steps(group.runs);
  return one;
}

// A row a seed, then one for each statistic.
std::string table_of(const RunGroup& group, const MainMetric& metric) {
  const std::vector<Spread> at = spreads(group, metric);
  Column heads{"seed"};
  for (const RunResult& run : group.runs)
    heads.cells.push_back(fmt::format("{}", run.evaluation.origin.seed));
  for (const uint64_t seed : group.failed) heads.cells.push_back(fmt::format("{} failed", seed));
  heads.cells.insert(heads.cells.end(), {"median", "min", "max"});
  if (metric.is_share) heads.cells.push_back("solved");
  std::vector<Column> columns = {heads};
  for (const Spread& spread : at) {
    const bool trained =
        !group.runs.empty() && spread.length == group.runs.front().evaluation.train_length;
    Column column{fmt::format("{}{}", spread.length, trained ? "*" : "")};
    for (const double value : spread.values) column.cells.push_back(fraction(value));
    column.cells.resize(group.seeds(), "-");
    for (const double value : {spread.median, spread.least, spread.most})
      column.cells.push_back(fraction(value));
    if (metric.is_share)
      column.cells.push_back(fmt::format("{} of {} {}", spread.solved.value_or(0), group.seeds(),
                                         range_text(spread.interval)));
    columns.push_back(std::move(column));
  }
  const std::string note =
      metric.is_share
          ? fmt::format("; solved: seeds with {} or more, with 95 % Wilson intervals", kSolved)
          : "";
  return fmt::format("{}: {}, by length\n{}* trained at this length{}\n",
                     shortened(printable(group.name), 40), metric.caption, tables(columns), note);
}

}  // namespace

std::vector<RunGroup> grouped(std::vector<RunResult> runs) {
  std::vector<RunGroup> groups;
  for (RunResult& run : runs) {
    const auto belongs = [&](const RunGroup& group) {
      return std::ranges::all_of(
          group.runs, [&](const RunResult& other) { return differ_by_seed_alone(other, run); });
    };
    const auto found = std::ranges::find_if(groups, belongs);
    RunGroup& group = found == groups.end() ? groups.emplace_back() : *found;
    group.runs.push_back(std::move(run));
  }
  for (RunGroup& group : groups) {
    group.name = name_of(group.runs);
    std::ranges::stable_sort(group.runs, {},
                             [](const RunResult& run) { return run.evaluation.origin.seed; });
  }
  return groups;
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return kNaN;
  std::ranges::sort(values);
  const double upper = values[values.size() / 2], lower = values[(values.size() - 1) / 2];
  return lower == upper ? upper : lower / 2 + upper / 2;
}

std::vector<Spread> spreads(const RunGroup& group, const MainMetric& metric) {
  std::vector<Spread> all;
  for (const int64_t length : evaluated_lengths(group.runs)) {
    Spread& spread = all.emplace_back(Spread{.length = length, .least = kNaN, .most = kNaN});
    int64_t solved = 0;
    for (const RunResult& run : group.runs) {
      const auto& results = run.evaluation.lengths;
      const auto found = std::ranges::find(results, length, &LengthResult::length);
      const double value = found == results.end() ? kNaN : found->metric(metric.name);
      spread.values.push_back(value);
      spread.least = std::fmin(spread.least, value);
      spread.most = std::fmax(spread.most, value);
      solved += value >= kSolved;
    }
    spread.median = median(spread.values);
    if (!metric.is_share) continue;
    const auto seeds = static_cast<double>(group.seeds());
    spread.solved = solved;
    spread.interval = wilson_interval(static_cast<double>(solved) / seeds, seeds);
  }
  return all;
}

MainMetric main_metric(RunGroups groups) { return main_metric(all_runs(groups)); }

std::vector<RunResult> medians(RunGroups groups) {
  const MainMetric metric = main_metric(groups);
  std::vector<RunResult> runs;
  for (const RunGroup& group : groups) runs.push_back(as_one(group, metric));
  return runs;
}

std::string report_table(RunGroups groups) {
  std::string text;
  const std::vector<RunResult> shown = medians(groups);
  if (groups.size() > 1 || (groups.size() == 1 && groups.front().seeds() == 1))
    text = report_table(shown);
  const MainMetric metric = main_metric(groups);
  for (const RunGroup& group : groups)
    if (group.seeds() > 1) text += (text.empty() ? "" : "\n") + table_of(group, metric);
  return text;
}

}  // namespace fprnn
