#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/report.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace fprnn {

std::vector<int64_t> evaluated_lengths(Runs runs) {
  std::set<int64_t> lengths;
  for (const RunResult& run : runs)
    for (const LengthResult& result : run.evaluation.lengths) lengths.insert(result.length);
  return {lengths.begin(), lengths.end()};
}

std::vector<int64_t> trained_lengths(Runs runs) {
  std::set<int64_t> lengths;
  for (const RunResult& run : runs)
    if (run.evaluation.train_length > 0) lengths.insert(run.evaluation.train_length);
  return {lengths.begin(), lengths.end()};
}

std::vector<LengthResult> results_by_length(const RunResult& run) {
  std::vector<LengthResult> results = run.evaluation.lengths;
  std::ranges::stable_sort(results, {}, &LengthResult::length);
  return results;
}

const LengthResult& longest_of(const Evaluation& evaluation) {
  return *std::ranges::max_element(evaluation.lengths, {}, &LengthResult::length);
}

std::string unconverged_note(const RunResult& run) {
  int64_t unconverged = 0, sequences = 0;
  for (const LengthResult& result : run.evaluation.lengths) {
    unconverged += result.unconverged;
    sequences += result.sequences;
  }
  if (unconverged == 0) return {};
  return fmt::format("{} of {} sequences unconverged", unconverged, sequences);
}

std::string listed(const std::vector<int64_t>& lengths, std::string_view more) {
  const std::span first(lengths.begin(), std::min<size_t>(lengths.size(), 4));
  return fmt::format("{}{}", fmt::join(first, ", "), first.size() < lengths.size() ? more : "");
}

Axis length_axis(std::span<const double> lengths) {
  return axis_over(lengths, spans(lengths, 8) ? 2 : 0);
}

std::string line_of(const std::string& text) {
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

bool has_iterations(const RunResult& run) {
  const auto iterated = [](const auto& record) { return record.iterations_max > 0; };
  return std::ranges::any_of(run.evaluation.lengths, iterated) ||
         std::ranges::any_of(run.metrics, iterated);
}

Interval interval_of(const LengthResult& result, std::string_view metric) {
  const bool main = !result.metrics.empty() && result.metrics.front().first == metric;
  return main ? result.wilson : Interval();
}

bool has_intervals(const RunResult& run) {
  return std::ranges::any_of(run.evaluation.lengths,
                             [](const LengthResult& r) { return r.wilson.low.has_value(); });
}

size_t common_beginning(const std::vector<std::string>& names) {
  size_t common = names[0].size();
  for (const std::string& name : names) {
    const auto end = std::ranges::mismatch(names[0], name).in1;
    common = std::min(common, static_cast<size_t>(end - names[0].begin()));
  }
  const size_t separator = names[0].substr(0, common).find_last_of(" _-./,");
  return separator == std::string::npos ? 0 : separator + 1;
}

std::string range_text(const Interval& interval) {
  if (!interval.low || !interval.high) return {};
  const auto brief = [](double share) {
    const std::string text = share_text(share, 3);
    return text == "1.000" ? std::string("1.00") : text.substr(1);
  };
  return fmt::format("{}-{}", brief(*interval.low), brief(*interval.high));
}

namespace {

// A name as people read it.
std::string words(std::string name) {
  std::ranges::replace(name, '_', ' ');
  return shortened(printable(name), 24);
}

}  // namespace

std::string changes_note(const RunResult& run) {
  std::string note;
  for (const auto& [key, value] : run.evaluation.changes)
    note += fmt::format("{}{} {}", note.empty() ? "evaluated with " : ", ", words(key),
                        shortened(printable(value), 24));
  return note;
}

std::vector<std::string> run_labels(Runs runs, int64_t most) {
  std::vector<std::string> names;
  for (const RunResult& run : runs)
    names.push_back(printable(run.name.empty() ? run.evaluation.model : run.name));
  const bool long_names =
      std::ranges::any_of(names, [&](const std::string& name) { return width(name) > most; });
  const size_t common = long_names && names.size() > 1 ? common_beginning(names) : 0;
  std::map<std::string, int> taken;
  for (std::string& name : names) {
    name = shortened(name.size() > common ? name.substr(common) : name, most);
    const int times = ++taken[name];
    if (times > 1) name = shortened(name, most - 4) + fmt::format(" ({})", times);
  }
  return names;
}

std::string problem_of(const KeyTexts& settings) {
  std::string problem;
  for (const auto& [key, value] : settings) {
    const bool number = value.find_first_not_of("0123456789.,-+e") == std::string::npos;
    const bool on_or_off = value == "true" || value == "false" || value == "on" || value == "off";
    problem += fmt::format("{}{}{}", problem.empty() ? "" : ", ",
                           number || on_or_off ? key + " " : "", value);
  }
  return problem;
}

MainMetric main_metric(Runs runs) {
  MainMetric metric;
  for (const RunResult& run : runs)
    for (const LengthResult& result : run.evaluation.lengths) {
      if (!metric.name.empty() || result.metrics.empty()) continue;
      metric.name = result.metrics.front().first;
      const std::string& caption = run.evaluation.caption;
      metric.caption = caption.empty() ? words(metric.name) : shortened(printable(caption), 60);
    }
  std::vector<double> values;
  for (const RunResult& run : runs)
    for (const LengthResult& result : run.evaluation.lengths)
      values.push_back(result.metric(metric.name));
  metric.is_share =
      std::ranges::none_of(values, [](double value) { return value < 0 || value > 1; });
  if (!metric.is_share) metric.axis = axis_over(values);
  return metric;
}

namespace {

// A share, or a number of tokens.
std::string figure(double value) {
  return value == std::floor(value) ? fmt::format("{:.0f}", value) : fraction(value);
}

// A value and the interval that it may have: "0.9500 .888-.978".
std::string value_and_range(const LengthResult& result, const std::string& metric) {
  const std::string range = range_text(interval_of(result, metric));
  return fraction(result.metric(metric)) + (range.empty() ? "" : " " + range);
}

constexpr const char* kIntervals = "; ranges: 95 % Wilson intervals";

// The names of all metrics of a run, in order.
std::vector<std::string> metric_names(const RunResult& run) {
  std::vector<std::string> names;
  for (const LengthResult& result : run.evaluation.lengths)
    for (const auto& [name, value] : result.metrics)
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  return names;
}

// A row for each length.
std::string table_of(const std::vector<PrefixResult>& results, const std::string& head,
                     std::string (*text)(double value)) {
  std::vector<Column> columns = {{head}};
  for (const auto& [name, value] : results.front().metrics) columns.push_back({words(name)});
  for (const PrefixResult& result : results) {
    columns[0].cells.push_back(fmt::format("{}", result.length));
    for (size_t i = 1; i < columns.size(); ++i) {
      const auto& metrics = result.metrics;
      columns[i].cells.push_back(i <= metrics.size() ? text(metrics[i - 1].second) : "-");
    }
  }
  return tables(columns);
}

// The sequences of the longest length by their beginnings, by their own lengths, and as a whole.
std::string protocol_tables(const Evaluation& evaluation) {
  const Protocols& protocols = evaluation.protocols;
  if (protocols == Protocols() || evaluation.lengths.empty()) return {};
  const LengthResult& longest = longest_of(evaluation);
  std::string text;
  if (!protocols.prefixes.empty())
    text += fmt::format("\nbeginnings of the {} sequences of length {}\n{}", longest.sequences,
                        longest.length, table_of(protocols.prefixes, "length", fraction));
  if (!protocols.bands.empty())
    text += fmt::format("\nthe {} sequences of length {} at most, by length\n{}", longest.sequences,
                        longest.length, table_of(protocols.bands, "up to", figure));
  std::vector<Column> whole;
  for (const auto& [name, value] : protocols.figures)
    whole.push_back({words(name), {figure(value)}});
  return whole.empty() ? text : text + "\n" + tables(whole);
}

// Everything of one run. A star marks the length that it was trained at.
std::string single_table(const RunResult& run) {
  const std::vector<std::string> names = metric_names(run);
  const bool iterated = has_iterations(run);
  std::vector<Column> columns = {{"length "}, {"sequences"}};
  for (const std::string& name : names) columns.push_back({words(name)});
  if (iterated) columns.insert(columns.end(), {{"iterations"}, {"residual"}, {"unconverged"}});
  bool starred = false;
  for (const LengthResult& r : run.evaluation.lengths) {
    const bool star = r.length == run.evaluation.train_length;
    starred |= star;
    std::vector<std::string> cells = {fmt::format("{}{}", r.length, star ? "*" : " "),
                                      fmt::format("{}", r.sequences)};
    for (const std::string& name : names) cells.push_back(value_and_range(r, name));
    if (iterated)
      cells.insert(cells.end(),
                   {fmt::format("{:.1f} ({:>3})", r.iterations_mean, r.iterations_max),
                    fmt::format("{:.1e}", r.residual_max), fmt::format("{}", r.unconverged)});
    for (size_t i = 0; i < cells.size(); ++i) columns[i].cells.push_back(cells[i]);
  }
  const char* star = starred ? "* " : "";
  const std::string changes = changes_note(run);
  return tables(columns) +
         fmt::format("{}trained at length {}{}{}\n", star, run.evaluation.train_length,
                     has_intervals(run) ? kIntervals : "",
                     iterated ? "; iterations: mean and (most)" : "") +
         (changes.empty() ? "" : changes + "\n") + protocol_tables(run.evaluation);
}

// The main metric of one run at each of the lengths.
Column main_column(const RunResult& run, const std::string& metric, const std::string& label,
                   const std::vector<int64_t>& lengths) {
  Column column{label + " "};
  for (const int64_t length : lengths) {
    const auto& results = run.evaluation.lengths;
    const auto found = std::ranges::find(results, length, &LengthResult::length);
    const std::string cell = found == results.end() ? "-" : value_and_range(*found, metric);
    column.cells.push_back(cell + (length == run.evaluation.train_length ? "*" : " "));
  }
  return column;
}

std::string joint_table(Runs runs) {
  const std::vector<int64_t> lengths = evaluated_lengths(runs);
  const std::vector<std::string> labels = run_labels(runs, 20);
  const MainMetric metric = main_metric(runs);
  std::vector<Column> columns = {{"length"}};
  for (const int64_t length : lengths) columns[0].cells.push_back(fmt::format("{}", length));
  for (size_t i = 0; i < runs.size(); ++i)
    columns.push_back(main_column(runs[i], metric.name, labels[i], lengths));
  std::string text =
      fmt::format("{}\n{}* the length that this run was trained at{}\n", metric.caption,
                  tables(columns), std::ranges::any_of(runs, has_intervals) ? kIntervals : "");
  for (size_t i = 0; i < runs.size(); ++i)
    for (const std::string& note : {changes_note(runs[i]), unconverged_note(runs[i])})
      if (!note.empty()) text += fmt::format("{}: {}\n", labels[i], note);
  return text;
}

}  // namespace

std::string report_table(Runs runs) {
  if (evaluated_lengths(runs).empty()) return {};
  return runs.size() == 1 ? single_table(runs[0]) : joint_table(runs);
}

}  // namespace fprnn
