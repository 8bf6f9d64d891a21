#include "tables.h"

#include <fmt/format.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace fprnn::paper {

namespace {

// What a table's columns are: a metric at lengths, or one figure at none.
struct Columns {
  std::string metric;
  std::vector<int64_t> lengths = {};  // or a 0
  bool is_share = true;
};

std::string main_metric_of(const std::vector<Group>& groups) {
  for (const Group& group : groups)
    for (const Run& run : group.runs)
      for (const LengthResult& result : run.evaluation.lengths)
        if (!result.metrics.empty()) return result.metrics.front().first;
  return "";
}

std::vector<int64_t> lengths_with(const std::string& metric, const std::vector<Group>& groups) {
  std::set<int64_t> lengths;
  for (const Group& group : groups)
    for (const Run& run : group.runs)
      for (const LengthResult& result : run.evaluation.lengths)
        if (metric == "iterations" || std::isfinite(result.metric(metric)))
          lengths.insert(result.length);
  return {lengths.begin(), lengths.end()};
}

Columns columns_of(const Query& query, const std::vector<Group>& groups) {
  Columns columns{.metric = query.metric.empty() ? main_metric_of(groups) : query.metric};
  columns.lengths = lengths_with(columns.metric, groups);
  if (columns.lengths.empty())
    columns.lengths = {0};
  else if (!query.at.empty())
    columns.lengths = query.at;
  columns.is_share = columns.metric != "iterations";
  for (const Group& group : groups)
    for (const Run& run : group.runs)
      for (const int64_t length : columns.lengths) {
        const double value = value_at(run, columns.metric, length);
        columns.is_share = columns.is_share && !(std::abs(value) > 1);
      }
  return columns;
}

std::string whole(double value) {
  return std::isfinite(value) ? fmt::format("{:.0f}", value) : "-";
}

// Seeds with .99 or more, and the interval of their share; a seed that failed has none.
std::string count_text(const Group& group, const Columns& columns, int64_t length) {
  int64_t solved = 0, asked = static_cast<int64_t>(group.failed.size());
  for (const Run& run : group.runs) {
    const double value = value_at(run, columns.metric, length);
    asked += std::isfinite(value);
    solved += value >= kSolved;
  }
  if (asked == 0) return "-";
  const auto trials = static_cast<double>(asked);
  return fmt::format("{} of {} ({})", solved, asked,
                     range_text(wilson_interval(static_cast<double>(solved) / trials, trials)));
}

double median_of(const Group& group, const std::string& name) {
  std::vector<double> values;
  for (const Run& run : group.runs) values.push_back(measured(run, name));
  return median(values);
}

bool has_paper(const std::vector<Group>& groups) {
  return std::ranges::any_of(
      groups, [](const Group& group) { return group.row->paper.contains(group.entry->label); });
}

std::string head_of(const Columns& columns, bool with_paper) {
  std::string name = columns.metric;
  std::ranges::replace(name, '_', ' ');
  std::vector<std::string> heads = {name};
  if (with_paper) heads.push_back("paper");
  for (const int64_t length : columns.lengths)
    heads.push_back(length == 0 ? "ours" : fmt::format("at {}", length));
  heads.insert(heads.end(), {"parameters", "steps", "seconds"});
  std::string rule = "|";
  for (size_t i = 0; i < heads.size(); ++i) rule += "---|";
  return fmt::format("| {} |\n{}\n", fmt::join(heads, " | "), rule);
}

std::string line_of(const Query& query, const Columns& columns, const Group& group,
                    bool with_paper) {
  std::string text = fmt::format("| `{}` |", group.entry->label);
  if (with_paper) {
    const auto found = group.row->paper.find(group.entry->label);
    text += fmt::format(" {} |", found == group.row->paper.end() ? "" : found->second);
  }
  for (const int64_t length : columns.lengths)
    text += fmt::format(
        " {} |", query.counts ? count_text(group, columns, length)
                              : values_text(group, columns.metric, length, columns.is_share));
  return text + fmt::format(" {} | {} | {} |\n", whole(median_of(group, "parameters")),
                            whole(median_of(group, "steps")), whole(median_of(group, "seconds")));
}

}  // namespace

std::string table_of(const Query& query, const std::vector<Row>& rows,
                     const std::vector<Run>& runs) {
  const std::vector<Group> groups = groups_of(query, rows, runs);
  const std::string rest = origin_of(query, groups) + lacking(query, rows, runs);
  if (groups.empty()) return rest;
  const Columns columns = columns_of(query, groups);
  const bool with_paper = has_paper(groups);
  std::string text = head_of(columns, with_paper);
  for (const Group& group : groups) text += line_of(query, columns, group, with_paper);
  return text + "\n" + rest;
}

std::string values_text(const Group& group, const std::string& metric, int64_t length,
                        bool is_share) {
  std::vector<double> values;
  std::string each;
  for (const Run& run : group.runs) {
    values.push_back(value_at(run, metric, length));
    each += (each.empty() ? "" : " ") + cell_text(values.back(), is_share);
  }
  for (size_t i = 0; i < group.failed.size(); ++i) each += (each.empty() ? "failed" : " failed");
  const std::string middle = cell_text(median(values), is_share);
  return group.count() == 1 ? (values.empty() ? each : middle)
                            : fmt::format("{} ({})", middle, each);
}

std::string cell_text(double value, bool is_share) {
  if (!std::isfinite(value)) return "-";
  if (!is_share) return fmt::format("{:.4g}", value);
  std::string text = share_text(value, 3);
  if (text.ends_with(".000")) return text.substr(0, text.size() - 4);
  return text.erase(text.find('0'), 1);
}

}  // namespace fprnn::paper
