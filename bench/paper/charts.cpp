#include "charts.h"

#include <fmt/format.h>
#include <fprnn/tasks/report/plot.h>

#include <algorithm>
#include <cmath>

namespace fprnn::paper {

namespace {

constexpr double kWidth = 1000, kMargin = 32, kPanelHeight = 380, kLegendRow = 24, kTop = 78;

// Entries whose labels differ by the number behind their last hyphen; or with names those of one model.
struct Series {
  std::string name;
  std::vector<Point> points = {};
  std::vector<std::string> labels = {};
};

std::string stem_of(const std::string& label) {
  const size_t end = label.find_last_not_of("0123456789");
  const bool numbered = end != std::string::npos && label[end] == '-' && end + 1 < label.size();
  return numbered ? label.substr(0, end) : label;
}

// A run that is right at no length stands at 1, for the axis may be logarithmic.
double shown(const Run& run, const std::string& name) {
  const double value = measured(run, name);
  return name == "longest" ? std::max(value, 1.0) : value;
}

Point point_of(const Query& query, const Group& group) {
  std::vector<double> xs, ys;
  for (const Run& run : group.runs) {
    xs.push_back(shown(run, query.x));
    ys.push_back(shown(run, query.y));
  }
  Point point{.x = median(xs), .y = median(ys)};
  for (const double y : ys) {
    point.low = std::fmin(point.low, y);
    point.high = std::fmax(point.high, y);
  }
  return point;
}

std::vector<Series> series_of(const Query& query, const std::vector<Group>& groups) {
  std::vector<Series> all;
  for (const Group& group : groups) {
    const std::string& label = group.entry->label;
    const std::string name = query.names ? group.runs.front().evaluation.model : stem_of(label);
    auto found = std::ranges::find(all, name, &Series::name);
    if (found == all.end()) found = all.insert(all.end(), {.name = name});
    found->points.push_back(point_of(query, group));
    found->labels.push_back(label);
  }
  if (!query.names)
    for (Series& series : all) std::ranges::sort(series.points, {}, &Point::x);
  return all;
}

Axis axis_of(const std::vector<double>& values) {
  return padded(axis_over(values, spans(values, 8) ? 10 : 0), 0.05);
}

std::string words(std::string name, const Axis& axis) {
  if (name == "seconds") name = "seconds of training";
  if (name == "longest") name = "longest length with .90 right";
  for (char& c : name)
    if (c == '_' || c == '-') c = ' ';
  return name + (axis.base != 0 ? " (log scale)" : "");
}

// As one curve, or with names as marks alone.
void add(Panel& panel, const Series& series, size_t style, bool named) {
  const Curve curve{.points = series.points, .style = style, .marks = true, .bars = true};
  if (!named) return panel.curves.push_back(curve);
  for (size_t i = 0; i < series.points.size(); ++i) {
    const Point& point = series.points[i];
    panel.curves.push_back(curve);
    panel.curves.back().points = {point};
    panel.names.push_back({point.x, point.y, series.labels[i]});
  }
}

std::string against(const Query& query, const std::vector<Group>& groups) {
  const std::vector<Series> all = series_of(query, groups);
  Panel panel{
      .note = "medians of the seeds, bars from the least to the most", .x_label = {}, .curves = {}};
  std::vector<double> xs, ys;
  std::string legend;
  for (size_t i = 0; i < all.size(); ++i) {
    add(panel, all[i], i, query.names);
    for (const Point& point : all[i].points) {
      xs.push_back(point.x);
      ys.insert(ys.end(), {point.y, point.low, point.high});
    }
    const double y = kTop + static_cast<double>(i) * kLegendRow;
    const Curve sample{
        .points = std::vector<Point>(query.names ? 1 : 0), .style = i, .marks = true};
    legend +=
        draw_sample(sample, kMargin, y) + draw_heading(kMargin + 48, y + 4.5, 13, all[i].name, "");
  }
  panel.x = axis_of(xs);
  panel.y = axis_of(ys);
  panel.x_label = words(query.x, panel.x);
  panel.title = words(query.y, panel.y);
  const double top = kTop + static_cast<double>(all.size()) * kLegendRow + 16;
  const Box box{.x = kMargin, .y = top, .width = kWidth - 2 * kMargin, .height = kPanelHeight};
  return draw_page({.title = query.title.empty() ? panel.title : query.title,
                    .width = kWidth,
                    .height = top + kPanelHeight + 22,
                    .margin = kMargin},
                   legend + draw(panel, box));
}

}  // namespace

std::string chart_of(const Query& query, const std::vector<Row>& rows,
                     const std::vector<Run>& runs) {
  std::vector<Group> groups = groups_of(query, rows, runs);
  std::erase_if(groups, [](const Group& group) { return group.runs.empty(); });
  if (groups.empty()) return "";
  if (!query.x.empty()) return against(query, groups);
  std::vector<RunGroup> seeds;
  for (const Group& group : groups) seeds.push_back(group.as_seeds());
  return report_svg(seeds);
}

}  // namespace fprnn::paper
