#include <fmt/format.h>
#include <fprnn/tasks/label.h>
#include <fprnn/tasks/report.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace fprnn {

std::vector<int64_t> evaluated_lengths(std::span<const RunRecord> runs) {
  std::set<int64_t> lengths;
  for (const RunRecord& run : runs)
    for (const LengthResult& result : run.evaluation.lengths) lengths.insert(result.length);
  return {lengths.begin(), lengths.end()};
}

std::vector<int64_t> trained_lengths(std::span<const RunRecord> runs) {
  std::set<int64_t> lengths;
  for (const RunRecord& run : runs)
    if (run.evaluation.train_length > 0) lengths.insert(run.evaluation.train_length);
  return {lengths.begin(), lengths.end()};
}

bool has_iterations(const RunRecord& run) {
  const auto iterated = [](const auto& record) { return record.iterations_max > 0; };
  return std::ranges::any_of(run.evaluation.lengths, iterated) ||
         std::ranges::any_of(run.metrics, iterated);
}

namespace {

constexpr int64_t kWidest = 100;
constexpr const char* kGap = "  ";

struct Column {
  std::string head;
  std::vector<std::string> cells = {};

  int64_t width() const {
    int64_t widest = fprnn::width(head);
    for (const std::string& cell : cells) widest = std::max(widest, fprnn::width(cell));
    return widest;
  }
};

std::string right_aligned(const std::string& text, int64_t width) {
  return std::string(std::max<int64_t>(width - fprnn::width(text), 0), ' ') + text;
}

std::string line_of(const std::string& text) {
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

std::string aligned(const std::vector<Column>& columns) {
  std::string heads, rule, rows;
  for (const Column& column : columns) {
    const char* gap = heads.empty() ? "" : kGap;
    heads.append(gap).append(right_aligned(column.head, column.width()));
    rule.append(gap).append(column.width(), '-');
  }
  for (size_t row = 0; row < columns[0].cells.size(); ++row) {
    std::string line;
    for (const Column& column : columns)
      line.append(line.empty() ? "" : kGap)
          .append(right_aligned(column.cells[row], column.width()));
    rows += line_of(line);
  }
  return line_of(heads) + line_of(rule) + rows;
}

std::string fraction(double value) {
  return std::isfinite(value) ? fmt::format("{:.4f}", value) : "-";
}

// Everything of one run. A star marks the length that it was trained at.
std::string single_table(const RunRecord& run) {
  std::vector<Column> columns = {
      {"length "}, {"sequences"}, {"whole sequences"}, {"tokens"}, {"last token"}};
  const bool iterated = has_iterations(run);
  if (iterated)
    columns.insert(columns.end(), {{"iterations (max)"}, {"residual"}, {"unconverged"}});
  bool starred = false;
  for (const LengthResult& r : run.evaluation.lengths) {
    const bool star = r.length == run.evaluation.train_length;
    starred |= star;
    std::vector<std::string> cells = {
        fmt::format("{}{}", r.length, star ? "*" : " "), fmt::format("{}", r.sequences),
        fraction(r.sequence_accuracy) + " +- " + fraction(r.standard_error()),
        fraction(r.token_accuracy), fraction(r.last_token_accuracy)};
    if (iterated)
      cells.insert(cells.end(),
                   {fmt::format("{:.1f} ({:>3})", r.iterations_mean, r.iterations_max),
                    fmt::format("{:.1e}", r.residual_max), fmt::format("{}", r.unconverged)});
    for (size_t i = 0; i < cells.size(); ++i) columns[i].cells.push_back(cells[i]);
  }
  const char* star = starred ? "* " : "";
  return aligned(columns) +
         fmt::format("{}trained at length {}\n", star, run.evaluation.train_length);
}

// The whole sequences that one run has right at each of the lengths.
Column accuracy_column(const RunRecord& run, const std::string& label,
                       const std::vector<int64_t>& lengths) {
  Column column{label + " "};
  for (const int64_t length : lengths) {
    const auto& results = run.evaluation.lengths;
    const auto found = std::ranges::find(results, length, &LengthResult::length);
    const std::string cell = found == results.end() ? "-" : fraction(found->sequence_accuracy);
    column.cells.push_back(cell + (length == run.evaluation.train_length ? "*" : " "));
  }
  return column;
}

// Runs side by side, in several tables if they are too many for one.
std::string joint_table(std::span<const RunRecord> runs) {
  const std::vector<int64_t> lengths = evaluated_lengths(runs);
  const std::vector<std::string> labels = run_labels(runs, 20);
  Column first{"length"};
  for (const int64_t length : lengths) first.cells.push_back(fmt::format("{}", length));
  std::string text = "whole sequences right\n";
  std::vector<Column> columns = {first};
  int64_t width = first.width();
  for (size_t i = 0; i < runs.size(); ++i) {
    Column next = accuracy_column(runs[i], labels[i], lengths);
    if (width + next.width() + 2 > kWidest && columns.size() > 1) {
      text += aligned(columns) + "\n";
      columns = {first};
      width = first.width();
    }
    width += next.width() + 2;
    columns.push_back(std::move(next));
  }
  return text + aligned(columns) + "* the length that this run was trained at\n";
}

}  // namespace

std::string report_table(std::span<const RunRecord> runs) {
  if (evaluated_lengths(runs).empty()) return {};
  return runs.size() == 1 ? single_table(runs[0]) : joint_table(runs);
}

}  // namespace fprnn
