#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/report.h>
#include <fprnn/tasks/report/table.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr int64_t kWidest = 100;
constexpr const char* kGap = "  ";

std::string right_aligned(const std::string& text, int64_t width) {
  return std::string(std::max<int64_t>(width - fprnn::width(text), 0), ' ') + text;
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

}  // namespace

int64_t Column::width() const {
  int64_t widest = fprnn::width(head);
  for (const std::string& cell : cells) widest = std::max(widest, fprnn::width(cell));
  return widest;
}

std::string tables(const std::vector<Column>& columns) {
  std::string text;
  std::vector<Column> now = {columns.front()};
  int64_t width = now.front().width();
  for (size_t i = 1; i < columns.size(); ++i) {
    if (width + columns[i].width() + 2 > kWidest && now.size() > 1) {
      text += aligned(now) + "\n";
      now = {columns.front()};
      width = now.front().width();
    }
    width += columns[i].width() + 2;
    now.push_back(columns[i]);
  }
  return text + aligned(now);
}

std::string share_text(double value, int digits) {
  const double whole = std::round(value) + 0.0;  // no -0
  if (std::abs(value - whole) < 1e-9) return fmt::format("{:.{}f}", whole, digits);
  const auto is_end = [](const std::string& text) {
    const double shown = std::abs(number_in<double>(text).value_or(0.5));
    return shown == 0 || shown == 1;
  };
  std::string text = fmt::format("{:.{}f}", value, digits);
  while (is_end(text)) text = fmt::format("{:.{}f}", value, ++digits);
  return text;
}

std::string fraction(double value) { return std::isfinite(value) ? share_text(value, 4) : "-"; }

}  // namespace fprnn
