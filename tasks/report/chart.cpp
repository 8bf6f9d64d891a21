// The chart of report.h: a canvas of characters, and a metric against length drawn on it.
#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/report.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace fprnn {

namespace {

constexpr int kColumns = 60, kRows = 13;
constexpr int kMargin = 6;  // left of the canvas

// Dots per character cell: braille has two by four of them.
struct Style {
  int across, down;
  std::span<const char* const> marks;
  const char *vertical, *corner, *rule, *tick, *tick_left, *edge;
};
constexpr const char* kAsciiMarks[] = {"o", "x", "+", "#", "@", "%", "&", "="};
constexpr const char* kUnicodeMarks[] = {"●", "○", "■", "□", "▲", "△", "◆", "◇"};
constexpr Style kAscii{1, 1, kAsciiMarks, ":", "+", "-", "+", "+", "|"};
constexpr Style kUnicode{2, 4, kUnicodeMarks, "┊", "└", "─", "┴", "┤", "│"};

// Runs beyond the marks there are have letters.
std::string mark_of(const Style& style, size_t run) {
  if (run < style.marks.size()) return style.marks[run];
  return {static_cast<char>('a' + (run - style.marks.size()) % 26)};
}

// Cells that hold a mark or dots. Positions are fractions of the canvas, from its lower left
// corner.
class Canvas {
 public:
  explicit Canvas(const Style& style) : style_(style) {}

  static int column(double x) { return static_cast<int>(std::lround(1 + x * (kColumns - 3))); }
  static int row(double y) { return static_cast<int>(std::lround((1 - y) * (kRows - 1))); }

  // Where another mark stands already, as near to it as there is room.
  void mark(double x, double y, const std::string& glyph) {
    for (int i = 0; i < 2 * kColumns; ++i) {
      const int at = column(x) + (i % 2 == 1 ? (i + 1) / 2 : -i / 2);
      if (at < 0 || at >= kColumns || !cell(row(y), at).glyph.empty()) continue;
      cell(row(y), at).glyph = glyph;
      return;
    }
  }
  void line(double x0, double y0, double x1, double y1) {
    constexpr int kSteps = 4 * kColumns;
    for (int i = 0; i <= kSteps; ++i) {
      const double part = static_cast<double>(i) / kSteps;
      dot(x0 + part * (x1 - x0), y0 + part * (y1 - y0));
    }
  }
  void vertical(double x) {
    for (int r = 0; r < kRows; ++r) {
      Cell& at = cell(r, column(x));
      if (at.glyph.empty() && at.dots == 0) at.glyph = style_.vertical;
    }
  }

  std::string text(int r) const {
    std::string line;
    for (int c = 0; c < kColumns; ++c) {
      const Cell& at = cells_[r * kColumns + c];
      line += !at.glyph.empty() ? at.glyph : at.dots == 0 ? " " : dots(at.dots);
    }
    return line;
  }

 private:
  struct Cell {
    std::string glyph = {};
    unsigned dots = 0;  // as the bits of braille
  };

  Cell& cell(int r, int c) { return cells_[r * kColumns + c]; }

  void dot(double x, double y) {
    constexpr unsigned kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    const int across = static_cast<int>((1.5 + x * (kColumns - 3)) * style_.across);
    const int down = static_cast<int>(((1 - y) * (kRows - 1) + 0.49) * style_.down);
    cell(down / style_.down, across / style_.across).dots |=
        kBits[down % style_.down][across % style_.across];
  }
  std::string dots(unsigned bits) const {
    if (style_.across == 1) return ".";
    return {'\xE2', static_cast<char>(0xA0 | bits >> 6), static_cast<char>(0x80 | (bits & 0x3F))};
  }

  const Style& style_;
  std::array<Cell, kRows* kColumns> cells_ = {};
};

// Lengths beside the axis, as many as there is room for: the ends and the trained ones first.
std::string axis_lines(const Style& style, const Axis& axis, const std::vector<int64_t>& lengths,
                       const std::vector<int64_t>& trained) {
  std::vector<int64_t> order = {lengths.front(), lengths.back()};
  order.insert(order.end(), trained.begin(), trained.end());
  order.insert(order.end(), lengths.begin(), lengths.end());
  std::vector<std::string> ticks(kColumns, style.rule);
  std::string numbers(kMargin + kColumns + 20, ' ');
  for (const int64_t length : order) {
    const double at = axis.at(static_cast<double>(length));
    if (!std::isfinite(at)) continue;
    const std::string text = fmt::format("{}", length);
    const int half = static_cast<int>(text.size()) / 2;
    const size_t begin = std::max(0, kMargin + Canvas::column(at) - half);
    const size_t from = begin > 0 ? begin - 1 : 0;
    if (numbers.substr(from, text.size() + 2).find_first_not_of(' ') != std::string::npos) continue;
    numbers.replace(begin, text.size(), text);
    ticks[Canvas::column(at)] = style.tick;
  }
  return fmt::format("{:{}}{}{}\n", "", kMargin - 1, style.corner, fmt::join(ticks, "")) +
         line_of(numbers);
}

// In five characters.
std::string value_label(double value) {
  const double size = std::abs(value);
  if (size < 10) return fmt::format("{:.2f}{}", value, value < 0 ? "" : " ");
  if (size < 1000) return fmt::format("{:5.0f}", value);
  const int power = static_cast<int>(std::floor(std::log10(size)));
  return fmt::format("{:>5}", fmt::format("{:.0f}e{}", value / std::pow(10, power), power));
}

// Marks at the lengths, though not closer than they can be told apart, and lines between them.
void draw_run(Canvas& canvas, const Axis& axis, const MainMetric& metric, const RunResult& run,
              const std::string& mark, int spacing) {
  double x0 = NAN, y0 = NAN;
  int last = -kColumns;
  for (const LengthResult& result : results_by_length(run)) {
    const double x = axis.at(static_cast<double>(result.length));
    const double y = std::clamp(metric.axis.at(result.metric(metric.name)), 0.0, 1.0);
    const bool shown = std::isfinite(x) && std::isfinite(y);
    if (shown && std::isfinite(x0)) canvas.line(x0, y0, x, y);
    if (shown && Canvas::column(x) >= last + spacing) {
      canvas.mark(x, y, mark);
      last = Canvas::column(x);
    }
    x0 = shown ? x : NAN;
    y0 = y;
  }
}

std::string legend(const Style& style, Runs runs, const std::vector<int64_t>& trained) {
  const std::vector<std::string> labels = run_labels(runs, 28);
  std::vector<std::string> entries;
  for (size_t i = 0; i < runs.size(); ++i) entries.push_back(mark_of(style, i) + " " + labels[i]);
  if (!trained.empty())
    entries.push_back(
        fmt::format("{} trained at length {}", style.vertical, listed(trained, " ..")));
  std::string text, line;
  for (const std::string& entry : entries) {
    if (!line.empty() && kMargin + width(line) + 3 + width(entry) > kMargin + kColumns + 4) {
      text += std::string(kMargin, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : "   ") + entry;
  }
  return text + std::string(kMargin, ' ') + line + "\n";
}

std::string only_ascii(const std::string& text) {
  std::string clean;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 || byte >= 0xC0) clean += byte < 0x80 ? c : '?';
  }
  return clean;
}

}  // namespace

std::string report_chart(Runs runs, Glyphs glyphs) {
  const std::vector<int64_t> lengths = evaluated_lengths(runs), trained = trained_lengths(runs);
  if (lengths.empty()) return {};
  const Style& style = glyphs == Glyphs::ascii ? kAscii : kUnicode;
  std::vector<double> shown(lengths.begin(), lengths.end());
  shown.insert(shown.end(), trained.begin(), trained.end());
  const Axis axis = length_axis(shown);
  const MainMetric metric = main_metric(runs);
  Canvas canvas(style);
  for (size_t i = 0; i < runs.size(); ++i)
    draw_run(canvas, axis, metric, runs[i], mark_of(style, i), static_cast<int>(runs.size()) + 1);
  for (const int64_t length : trained) canvas.vertical(axis.at(static_cast<double>(length)));

  std::string text = fmt::format("{:{}}{}, by length{}\n", "", kMargin, metric.caption,
                                 axis.base != 0 ? " (log scale)" : "");
  for (int row = 0; row < kRows; ++row) {
    const bool labelled = row % 3 == 0;
    const double part = 1 - static_cast<double>(row) / (kRows - 1);
    const double value = metric.axis.least + part * (metric.axis.most - metric.axis.least);
    text += labelled ? value_label(value) + style.tick_left : fmt::format("{:5}{}", "", style.edge);
    text += line_of(canvas.text(row));
  }
  text += axis_lines(style, axis, lengths, trained) + legend(style, runs, trained);
  return glyphs == Glyphs::ascii ? only_ascii(text) : text;
}

}  // namespace fprnn
