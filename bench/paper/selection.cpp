#include "selection.h"

#include <fmt/format.h>
#include <fprnn/core/check.h>
#include <fprnn/core/text.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

namespace fprnn::paper {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Of a pattern that may end with a star.
bool matches(const std::string& label, const std::string& pattern) {
  if (!pattern.ends_with('*')) return label == pattern;
  return label.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1));
}

bool is_shown(const Query& query, const Entry& entry) {
  if (query.trainings && !entry.of.empty()) return false;
  return query.labels.empty() || std::ranges::any_of(query.labels, [&](const std::string& pattern) {
           return matches(entry.label, pattern);
         });
}

bool is_in(const Query& query, const Row& row) {
  return row.scale == query.scale && std::ranges::find(query.rows, row.name) != query.rows.end();
}

double figure_of(const Run& run, std::string_view name) {
  const NamedValues& figures = run.evaluation.protocols.figures;
  const auto found = std::ranges::find(figures, name, &NamedValues::value_type::first);
  return found == figures.end() ? kNaN : found->second;
}

// The longest length, of those asked for, with .90 of the main metric.
double longest(const Run& run) {
  double most = std::max(0.0, figure_of(run, "longest_90"));
  for (const LengthResult& result : run.evaluation.lengths)
    if (!result.metrics.empty() && result.metrics.front().second >= 0.9)
      most = std::max(most, static_cast<double>(result.length));
  return most;
}

std::string joined(const std::set<std::string>& texts) {
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace

std::pair<std::string, std::string> key_and_value(const std::string& word) {
  const size_t equals = std::min(word.find('='), word.size());
  return {word.substr(0, equals), word.substr(std::min(equals + 1, word.size()))};
}

Query query_of(const std::vector<std::string>& words) {
  Query query;
  for (const std::string& word : words) {
    const auto& [key, value] = key_and_value(word);
    if (key == "row") {
      query.rows = split(value, ',');
    } else if (key == "labels") {
      query.labels = split(value, ',');
    } else if (key == "at") {
      for (const std::string& length : split(value, ','))
        query.at.push_back(number_in<int64_t>(length).value_or(0));
    } else if (word == "show=solved") {
      query.counts = true;
    } else if (word == "show=names") {
      query.names = true;
    } else if (word == "of=trainings") {
      query.trainings = true;
    } else {
      std::string* text = key == "scale"    ? &query.scale
                          : key == "metric" ? &query.metric
                          : key == "x"      ? &query.x
                          : key == "y"      ? &query.y
                          : key == "title"  ? &query.title
                                            : nullptr;
      require<FormatError>(text != nullptr, "paper", "a marker has no such word", word);
      *text = value;
    }
  }
  std::ranges::replace(query.title, '_', ' ');
  require<FormatError>(!query.rows.empty(), "paper", "a marker must name a row");
  return query;
}

std::vector<Selected> selected(const Query& query, const std::vector<Row>& rows) {
  std::vector<Selected> entries;
  for (const Row& row : rows)
    for (const Entry& entry : row.entries)
      if (is_in(query, row) && is_shown(query, entry)) entries.push_back({&row, &entry});
  return entries;
}

RunGroup Group::as_seeds() const {
  RunGroup group{.name = entry->label};
  for (const Run& run : runs)
    group.runs.push_back({.name = entry->label, .evaluation = run.evaluation});
  for (const Run& run : failed) group.failed.push_back(run.seed);
  return group;
}

std::vector<Group> groups_of(const Query& query, const std::vector<Row>& rows,
                             const std::vector<Run>& runs) {
  std::vector<Group> groups;
  for (const Selected& one : selected(query, rows)) {
    Group group{.row = one.row, .entry = one.entry};
    for (const Run& run : runs)
      if (run.row == one.row->name && run.scale == one.row->scale &&
          run.label == one.entry->label && run.command == one.row->command(*one.entry, run.seed))
        (run.failed.empty() ? group.runs : group.failed).push_back(run);
    std::ranges::sort(group.runs, {}, &Run::seed);
    if (group.count() > 0) groups.push_back(std::move(group));
  }
  return groups;
}

std::string lacking(const Query& query, const std::vector<Row>& rows,
                    const std::vector<Run>& runs) {
  const std::vector<Group> groups = groups_of(query, rows, runs);
  if (groups.empty())
    return fmt::format("Lacking: all runs of row {} ({}).\n", fmt::join(query.rows, ", "),
                       query.scale);
  std::vector<std::string> missing;
  for (const Selected& one : selected(query, rows)) {
    const auto found = std::ranges::find(groups, one.entry, &Group::entry);
    const size_t there = found == groups.end() ? 0 : found->count(), all = one.row->seeds.size();
    if (there < all)
      missing.push_back(fmt::format("`{}` ({} of {})", one.entry->label, there, all));
  }
  return missing.empty() ? "" : fmt::format("Lacking: {}.\n", fmt::join(missing, ", "));
}

std::string origin_of(const Query& query, const std::vector<Group>& groups) {
  std::set<std::string> days, commits, machines, commands;
  size_t count = 0, failed = 0;
  for (const std::string& row : query.rows)
    commands.insert(fmt::format("`{}docs/paper/run.sh {}`",
                                query.scale == "gpu" ? "" : "SCALE=" + query.scale + " ", row));
  for (const Group& group : groups) {
    count += group.count();
    failed += group.failed.size();
    for (const auto* list : {&group.runs, &group.failed})
      for (const Run& run : *list) {
        const Machine& machine = run.evaluation.origin.machine;
        days.insert(run.date);
        commits.insert(run.evaluation.origin.commit);
        if (run.failed.empty())
          machines.insert(machine.gpu.empty() ? "CPU, " + machine.instruction_set : machine.gpu);
      }
  }
  if (count == 0) return "";
  return fmt::format("{}: {} run{}{}; {}; commit {}; {}.\n", joined(commands), count,
                     count == 1 ? "" : "s", failed > 0 ? fmt::format(", {} failed", failed) : "",
                     days.size() < 3 ? joined(days) : *days.begin() + " to " + *days.rbegin(),
                     joined(commits), joined(machines));
}

double value_at(const Run& run, const std::string& metric, int64_t length) {
  if (length == 0) return measured(run, metric);
  const auto& lengths = run.evaluation.lengths;
  const auto found = std::ranges::find(lengths, length, &LengthResult::length);
  if (found == lengths.end()) return kNaN;
  return metric == "iterations" ? found->iterations_mean : found->metric(metric);
}

double measured(const Run& run, const std::string& name) {
  const Evaluation& e = run.evaluation;
  if (name == "parameters") return static_cast<double>(e.parameters);
  if (name == "steps") return static_cast<double>(e.steps);
  if (name == "seconds") return e.train_seconds;
  if (name == "longest") return longest(run);
  if (const size_t at = name.find('@'); at != std::string::npos)
    return value_at(run, name.substr(0, at), number_in<int64_t>(name.substr(at + 1)).value_or(-1));
  const double figure = figure_of(run, name);
  return std::isfinite(figure) ? figure
                               : number_in<double>(value_of(run.command, name)).value_or(kNaN);
}

}  // namespace fprnn::paper
