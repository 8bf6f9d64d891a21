#include <fmt/format.h>
#include <fprnn/core/build_info.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/names.h>
#include <fprnn/tasks/report/plot.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

// Okabe and Ito's palette, which the colour-blind tell apart; dashes and marks say the same
// again. Curves are drawn in order, and only the first is solid with a filled mark, so that none
// hides another.
struct Style {
  const char *colour, *dash, *mark;
};
constexpr Style kStyles[] = {
    {"#0072b2", "none", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"},
    {"#d55e00", "7 4", "M-4.5-4.5h9v9h-9z"},
    {"#009e73", "2 3", "M0-6.5L6 4.5H-6z"},
    {"#b0518c", "9 3 2 3", "M0-6.5L6 0L0 6.5L-6 0z"},
    {"#b87a00", "4 2", "M-6-4.5H6L0 6.5z"},
    {"#3d97cc", "12 4", "M-5-5L5 5M-5 5L5-5"},
    {"#444444", "1 2", "M-6 0H6M0-6V6"},
};
constexpr size_t kStyleCount = std::size(kStyles);

// Beyond the palette colours come again, with other dashes and marks.
Style style_of(size_t index) {
  const size_t round = index / kStyleCount;
  return {kStyles[index % kStyleCount].colour, kStyles[(index + round) % kStyleCount].dash,
          kStyles[(index + 2 * round) % kStyleCount].mark};
}

constexpr const char* kInk = "#1f2328";
constexpr const char* kGrey = "#59636e";
constexpr const char* kGrid = "#e4e7eb";

std::string number(double value) {
  const std::string text = fmt::format("{:.1f}", value);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

std::string segment(double x0, double y0, double x1, double y1, const std::string& attributes) {
  return fmt::format("<path d=\"M{} {}L{} {}\" {}/>\n", number(x0), number(y0), number(x1),
                     number(y1), attributes);
}

std::string mark(size_t style, double x, double y) {
  const Style s = style_of(style);
  return fmt::format(
      "<path transform=\"translate({} {})\" d=\"{}\" fill=\"{}\" stroke=\"{}\" "
      "stroke-width=\"1.8\"/>\n",
      number(x), number(y), s.mark, style == 0 ? s.colour : "none", s.colour);
}

// Where a panel's values come to lie.
struct Plot {
  const Panel& panel;
  double left, top, width, height;

  double x(double value) const { return left + panel.x.at(value) * width; }
  double y(double value) const { return top + (1 - panel.y.at(value)) * height; }
  bool shows(double at_x, double at_y) const {
    return std::isfinite(panel.x.at(at_x)) && std::isfinite(panel.y.at(at_y));
  }
};

// A path through what can be shown, with a new beginning after every gap.
std::string path_data(const Plot& plot, const std::vector<Point>& points) {
  std::string data;
  bool pen_down = false;
  for (const Point& point : points) {
    const bool shown = plot.shows(point.x, point.y);
    if (shown)
      data += fmt::format("{}{} {}", pen_down ? "L" : "M", number(plot.x(point.x)),
                          number(plot.y(point.y)));
    pen_down = shown;
  }
  return data;
}

// The area between low and high, a closed one between any two gaps.
std::string band(const Plot& plot, const Curve& curve) {
  std::string data, edge, upper, lower;
  const auto close = [&] {
    if (upper.empty()) return;
    upper[0] = 'M';
    data += upper + lower + "z";
    edge += upper;
    upper.clear();
    lower.clear();
  };
  for (const Point& point : curve.points) {
    if (!plot.shows(point.x, point.low) || !plot.shows(point.x, point.high)) {
      close();
      continue;
    }
    const std::string x = number(plot.x(point.x));
    upper += "L" + x + " " + number(plot.y(point.high));
    lower.insert(0, "L" + x + " " + number(plot.y(point.low)));
  }
  close();
  const char* colour = style_of(curve.style).colour;
  return fmt::format(
      "<path d=\"{}\" fill=\"{}\" fill-opacity=\"0.12\"/>\n"
      "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-opacity=\"0.45\"/>\n",
      data, colour, edge, colour);
}

std::string bars(const Plot& plot, const Curve& curve) {
  std::string data;
  for (const Point& point : curve.points)
    if (plot.shows(point.x, point.low) && plot.shows(point.x, point.high))
      data += fmt::format("M{} {}V{}", number(plot.x(point.x)), number(plot.y(point.low)),
                          number(plot.y(point.high)));
  return fmt::format("<path d=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", data,
                     style_of(curve.style).colour);
}

std::string draw_curve(const Plot& plot, const Curve& curve) {
  const Style style = style_of(curve.style);
  std::string text;
  if (curve.band) text += band(plot, curve);
  if (curve.bars) text += bars(plot, curve);
  text += fmt::format(
      "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-dasharray=\"{}\" "
      "stroke-linejoin=\"round\" "
      "stroke-width=\"{}\" stroke-opacity=\"{}\"/>\n",
      path_data(plot, curve.points), style.colour, curve.faint ? "none" : style.dash,
      curve.faint ? "1" : "2", curve.faint ? "0.3" : "1");
  if (curve.marks)
    for (const Point& point : curve.points)
      if (plot.shows(point.x, point.y)) text += mark(curve.style, plot.x(point.x), plot.y(point.y));
  return text;
}

// As many as their numbers have room beside each other.
std::vector<double> ticks_below(const Plot& plot) {
  constexpr double kDigit = 7.5, kBetween = 18;
  for (int most = 12; most > 2; --most) {
    const std::vector<double> ticks = plot.panel.x.ticks(most);
    double needed = 0;
    for (const double tick : ticks)
      needed += kDigit * static_cast<double>(width(tick_text(tick))) + kBetween;
    if (needed <= plot.width) return ticks;
  }
  return plot.panel.x.ticks(2);
}

std::string draw_axes(const Plot& plot) {
  const double right = plot.left + plot.width, bottom = plot.top + plot.height;
  const std::string small = fmt::format("font-size=\"12\" fill=\"{}\"", kGrey);
  const std::string grid = fmt::format("stroke=\"{}\"", kGrid),
                    line = fmt::format("stroke=\"{}\"", kGrey);
  std::string text;
  for (const double tick : plot.panel.y.ticks(static_cast<int>(plot.height / 28))) {
    const double y = plot.y(tick);
    text += segment(plot.left, y, right, y, grid);
    text += draw_text(plot.left - 8, y + 4, tick_text(tick), small + " text-anchor=\"end\"");
  }
  text += segment(plot.left, bottom, right, bottom, line);
  for (const double tick : ticks_below(plot)) {
    const double x = plot.x(tick);
    text += segment(x, bottom, x, bottom + 5, line);
    text += draw_text(x, bottom + 19, tick_text(tick), small + " text-anchor=\"middle\"");
  }
  return text + draw_text(plot.left + plot.width / 2, bottom + 37, plot.panel.x_label,
                          small + " text-anchor=\"middle\"");
}

// The note stands beside the first of the lines, to the side where there is room.
std::string draw_verticals(const Plot& plot) {
  std::string text, note;
  for (const int64_t value : plot.panel.verticals) {
    const double x = plot.x(static_cast<double>(value));
    if (!std::isfinite(x)) continue;
    text += segment(x, plot.top - 8, x, plot.top + plot.height,
                    fmt::format("stroke=\"{}\" stroke-dasharray=\"3 3\"", kGrey));
    const bool rightward = x < plot.left + 0.7 * plot.width;
    if (note.empty() && !plot.panel.vertical_note.empty())
      note = draw_text(x + (rightward ? 6 : -6), plot.top - 3, plot.panel.vertical_note,
                       fmt::format("font-size=\"12\" fill=\"{}\" text-anchor=\"{}\"", kGrey,
                                   rightward ? "start" : "end"));
  }
  return text + note;
}

// A name that does not stand beside its mark is joined to it by a line.
std::string draw_names(const Plot& plot) {
  std::vector<NamePlace> places;
  std::vector<std::string> names;
  for (const Name& name : plot.panel.names) {
    if (!plot.shows(name.x, name.y)) continue;
    places.push_back({.mark_x = plot.x(name.x), .mark_y = plot.y(name.y)});
    names.push_back(name.text);
  }
  place_names(places, names, {plot.left, plot.top, plot.width, plot.height});
  std::string text;
  for (size_t i = 0; i < places.size(); ++i) {
    const NamePlace& place = places[i];
    const double middle = place.y - kNameHeight / 2;
    if (std::abs(middle - place.mark_y) > kNameHeight / 2)
      text += segment(place.mark_x, place.mark_y,
                      place.x > place.mark_x ? place.x - 2 : place.x + name_width(names[i]) + 2,
                      middle, fmt::format("stroke=\"{}\" stroke-width=\"0.7\"", kGrey));
    text += draw_text(place.x, place.y - 2, names[i],
                      fmt::format("font-size=\"11\" fill=\"{}\"", kInk));
  }
  return text;
}

double mean_of(std::span<const Point> points, double Point::*member) {
  double sum = 0, count = 0;
  for (const Point& point : points)
    if (std::abs(point.*member) <= kLargestShown) {
      sum += point.*member;
      ++count;
    }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : printable(text))
    safe += c == '&'    ? "&amp;"
            : c == '<'  ? "&lt;"
            : c == '>'  ? "&gt;"
            : c == '"'  ? "&quot;"
            : c == '\'' ? "&apos;"
                        : std::string(1, c);
  return safe;
}

std::string draw_text(double x, double y, const std::string& text, const std::string& attributes) {
  return fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", number(x), number(y), attributes,
                     escaped(text));
}

std::string draw_heading(double x, double y, int size, const std::string& title,
                         const std::string& note) {
  return fmt::format(
      "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\"><tspan font-weight=\"600\">{}</tspan>"
      "<tspan dx=\"9\" font-size=\"12\" fill=\"{}\">{}</tspan></text>\n",
      number(x), number(y), size, kInk, escaped(title), kGrey, escaped(note));
}

std::string draw_page(const Page& page, const std::string& drawn) {
  const BuildInfo build = build_info();
  std::string text = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" "
      "role=\"img\" font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', "
      "Arial, sans-serif\">\n<title>{2}</title>\n<desc>{3}</desc>\n"
      "<rect width=\"{0}\" height=\"{1}\" rx=\"8\" fill=\"#ffffff\"/>\n",
      page.width, page.height, escaped(page.title),
      escaped(
          fmt::format("fprnn {} ({}), solver {}", build.version, build.commit, kSolverVersion)));
  text += draw_text(page.margin, 46, page.title,
                    fmt::format("font-size=\"22\" font-weight=\"600\" fill=\"{}\"", kInk));
  return text + drawn + "</svg>\n";
}

std::string draw_sample(size_t style, double x, double y) {
  return draw_sample(Curve{.points = {}, .style = style, .marks = true}, x, y);
}

std::string draw_sample(const Curve& curve, double x, double y) {
  const Style s = style_of(curve.style);
  std::string sample;
  if (curve.points.size() != 1)
    sample = segment(
        x, y, x + 36, y,
        fmt::format("stroke=\"{}\" {}", s.colour,
                    curve.faint
                        ? std::string("stroke-opacity=\"0.3\"")
                        : fmt::format("stroke-width=\"2\" stroke-dasharray=\"{}\"", s.dash)));
  if (curve.marks) sample += mark(curve.style, x + 18, y);
  return sample;
}

std::string draw(const Panel& panel, const Box& box) {
  const Plot plot{panel, box.x + 46, box.y + 44, box.width - 58, box.height - 86};
  std::string text = draw_heading(box.x, box.y + 14, 14, panel.title, panel.note);
  text += draw_axes(plot) + draw_verticals(plot);
  for (const Curve& curve : panel.curves) text += draw_curve(plot, curve);
  text += draw_names(plot);
  return "<g>\n" + text + "</g>\n";
}

std::vector<Point> thinned(const std::vector<Point>& points, size_t most) {
  if (points.size() <= most) return points;
  std::vector<Point> fewer;
  for (size_t i = 0; i < most; ++i) {
    const size_t begin = i * points.size() / most, end = (i + 1) * points.size() / most;
    const std::span<const Point> group(points.data() + begin, end - begin);
    Point mean{.x = mean_of(group, &Point::x), .y = mean_of(group, &Point::y)};
    for (const Point& point : group) {
      mean.low = std::fmin(mean.low, point.low);
      mean.high = std::fmax(mean.high, point.high);
    }
    fewer.push_back(mean);
  }
  return fewer;
}

}  // namespace fprnn
