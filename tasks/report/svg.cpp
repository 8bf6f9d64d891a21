// The picture of report.h: what its panels show, and the page that they stand on.
#include <fmt/format.h>
#include <fprnn/core/text.h>
#include <fprnn/tasks/report/curves.h>

#include <algorithm>
#include <cmath>

namespace fprnn {

namespace {

constexpr double kWidth = 1000, kMargin = 32, kGap = 40;
constexpr double kPanelHeight = 264, kPanelGap = 26, kLegendRow = 24;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Panels.

std::vector<double> shown_y(const std::vector<Curve>& curves) {
  std::vector<double> values;
  for (const Curve& curve : curves)
    for (const Point& point : curve.points)
      for (const double value : {point.y, point.low, point.high})
        if (std::abs(value) <= kLargestShown) values.push_back(value);
  return values;
}

// From 0, with room above.
Axis axis_from_zero(std::vector<double> values) {
  values.push_back(0);
  Axis axis = axis_over(values);
  axis.most += 0.05 * (axis.most - axis.least);
  return axis;
}

Panel length_panel(Runs runs, std::vector<Curve> curves) {
  Panel panel{.x_label = "sequence length",
              .curves = std::move(curves),
              .verticals = trained_lengths(runs)};
  std::vector<double> lengths(panel.verticals.begin(), panel.verticals.end());
  for (const Curve& curve : panel.curves)
    for (const Point& point : curve.points) lengths.push_back(point.x);
  const Axis axis = length_axis(lengths);
  panel.x = padded(axis, 0.04);
  if (axis.base != 0) panel.x_label += " (log scale)";
  return panel;
}

Panel step_panel(Runs runs, std::vector<Curve> curves) {
  std::vector<double> steps = {0};
  for (const RunResult& run : runs)
    for (const StepMetrics& metrics : run.metrics)
      steps.push_back(static_cast<double>(metrics.step));
  return {.x_label = "training step", .x = axis_over(steps), .curves = std::move(curves)};
}

std::string capital(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] -= 'a' - 'A';
  return text;
}

// The whole of the seeds' values may be more than their medians'.
MainMetric metric_of(const Shown& shown) {
  return shown.groups.empty() ? main_metric(shown.runs) : main_metric(shown.groups);
}

Panel metric_panel(const Shown& shown) {
  const Runs runs = shown.runs;
  const MainMetric metric = metric_of(shown);
  const auto point_at = [&](const LengthResult& r) -> Point {
    const Interval interval = interval_of(r, metric.name);
    return {.x = static_cast<double>(r.length),
            .y = r.metric(metric.name),
            .low = interval.low.value_or(kNaN),
            .high = interval.high.value_or(kNaN)};
  };
  Panel panel = length_panel(runs, curves_by_length(shown, false, point_at));
  panel.title = capital(metric.caption);
  panel.note = !metric.is_share                           ? ""
               : std::ranges::any_of(runs, has_intervals) ? "fraction, with 95 % Wilson intervals"
                                                          : "fraction";
  for (Curve& curve : panel.curves) curve.bars = !curve.faint;
  panel.y = padded(metric.is_share ? Axis() : axis_over(shown_y(panel.curves)), 0.03);
  panel.vertical_note = "trained at " + listed(panel.verticals, " …");
  return panel;
}

// P(no error in the first k answers) at every k.
Panel exact_panel(const Shown& shown) {
  Panel panel = length_panel(shown.runs, exact_curves(shown));
  panel.title = "Right so far";
  panel.note = "fraction of the longest sequences, answer by answer";
  panel.y = padded(Axis(), 0.03);
  return panel;
}

Panel loss_panel(const Shown& shown) {
  Panel panel = step_panel(shown.runs, smooth_curves(shown, false, &StepMetrics::loss));
  const std::vector<double> values = shown_y(panel.curves);
  const bool logarithmic = spans(values, 50);
  panel.title = "Loss";
  panel.note =
      fmt::format("nats, smoothed; faint: {}{}", shown.groups.empty() ? "as logged" : "seeds",
                  logarithmic ? " (log scale)" : "");
  panel.y = logarithmic ? padded(axis_over(values, 10), 0.04) : axis_from_zero(values);
  return panel;
}

Panel iterations_panel(Panel panel) {
  panel.title = "Iterations";
  panel.note = "mean, shaded up to the slowest sequence";
  for (Curve& curve : panel.curves) curve.band = !curve.faint;
  panel.y = axis_from_zero(shown_y(panel.curves));
  return panel;
}

Panel residual_panel(Panel panel, std::string_view how) {
  panel.title = "Residual";
  panel.note = fmt::format("of the worst sequence{} (log scale)", how);
  panel.y = whole_decades(axis_over(shown_y(panel.curves), 10));
  return panel;
}

bool shows_anything(const Panel& panel) {
  return std::ranges::any_of(panel.curves, [&](const Curve& curve) {
    return std::ranges::any_of(curve.points, [&](const Point& point) {
      return std::isfinite(panel.x.at(point.x)) && std::isfinite(panel.y.at(point.y));
    });
  });
}

// In reading order of two columns: against length on the left, against step on the right.
std::vector<Panel> panels_of(const Shown& shown) {
  const Runs runs = shown.runs;
  const auto iterations = [](const LengthResult& r) { return iterations_at(r.length, r); };
  const auto residual = [](const LengthResult& r) -> Point {
    return {.x = static_cast<double>(r.length), .y = r.residual_max};
  };
  std::vector<Panel> panels = {
      metric_panel(shown),
      exact_panel(shown),
      loss_panel(shown),
      iterations_panel(length_panel(runs, curves_by_length(shown, true, iterations))),
      iterations_panel(step_panel(runs, iteration_curves(shown))),
      residual_panel(length_panel(runs, curves_by_length(shown, true, residual)), ""),
      residual_panel(step_panel(runs, smooth_curves(shown, true, &StepMetrics::residual_max)),
                     ", smoothed")};
  std::erase_if(panels, [](const Panel& panel) { return !shows_anything(panel); });
  return panels;
}

// Page.

std::string counted(int64_t count, const std::string& what) {
  return tick_text(static_cast<double>(count)) + " " + what + (count == 1 ? "" : "s");
}

std::string duration(double seconds) {
  if (!(seconds < 1e9)) return "unknown time";
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  return seconds < 7200 ? fmt::format("{:.3g} min", seconds / 60)
                        : fmt::format("{:.3g} h", seconds / 3600);
}

std::string name_in(const std::string& text) { return shortened(printable(text), 20); }

std::string details(const Evaluation& e) {
  std::string text = fmt::format("{}, {}; {} at length {} in {} on {}", name_in(e.model),
                                 counted(e.parameters, "parameter"), counted(e.steps, "step"),
                                 e.train_length, duration(e.train_seconds), name_in(e.device));
  if (!e.solver.empty()) text += fmt::format("; {} solver", name_in(e.solver));
  if (!e.gradient.empty()) text += fmt::format(", {} gradient", name_in(e.gradient));
  return text;
}

std::string task_in(const Evaluation& e) { return name_in(e.task); }
std::string problem_in(const Evaluation& e) { return name_in(problem_of(e.settings)); }

std::vector<std::string> distinct(Runs runs, std::string (*name)(const Evaluation&)) {
  std::vector<std::string> seen;
  for (const RunResult& run : runs) {
    const std::string value = name(run.evaluation);
    if (!value.empty() && std::ranges::find(seen, value) == seen.end()) seen.push_back(value);
  }
  return seen;
}

// "State tracking on S3, A5".
std::string title_of(Runs runs) {
  std::string task = fmt::format("{}", fmt::join(distinct(runs, task_in), ", "));
  const std::string problems = fmt::format("{}", fmt::join(distinct(runs, problem_in), ", "));
  std::ranges::replace(task, '_', ' ');
  task = capital(task);
  return shortened(problems.empty() ? task : task + " on " + problems, 60);
}

// A row for each run; with problems of their own, these are named in it.
std::string legend(Runs runs, double top) {
  constexpr int64_t kRow = 128;  // characters that there is room for
  const std::vector<std::string> labels = run_labels(runs, 28);
  const bool problems = distinct(runs, problem_in).size() > 1;
  std::string text;
  for (size_t i = 0; i < runs.size(); ++i) {
    const double y = top + static_cast<double>(i) * kLegendRow;
    const Evaluation& e = runs[i].evaluation;
    std::string what;
    for (const std::string& note : {unconverged_note(runs[i]), changes_note(runs[i]),
                                    problems ? problem_in(e) : std::string()})
      if (!note.empty()) what += note + ", ";
    what += details(e);
    text += draw_sample(i, kMargin, y);
    text += draw_heading(kMargin + 48, y + 4.5, 13, labels[i],
                         shortened(what, kRow - width(labels[i])));
  }
  return text;
}

// Two columns; if the panels are odd in number, the first has both.
std::string grid(const std::vector<Panel>& panels, double top) {
  const double half = (kWidth - 2 * kMargin - kGap) / 2;
  const bool wide_first = panels.size() % 2 == 1;
  std::string text;
  for (size_t i = 0; i < panels.size(); ++i) {
    const size_t place = i + (wide_first && i > 0 ? 1 : 0);
    const bool wide = wide_first && i == 0;
    text += draw(panels[i], {.x = kMargin + static_cast<double>(place % 2) * (half + kGap),
                             .y = top + static_cast<double>(place / 2) * (kPanelHeight + kPanelGap),
                             .width = wide ? 2 * half + kGap : half,
                             .height = kPanelHeight});
  }
  return text;
}

std::string page(const Shown& shown) {
  const Runs runs = shown.runs;
  const std::vector<Panel> panels = runs.empty() ? std::vector<Panel>() : panels_of(shown);
  const double rows = std::ceil(static_cast<double>(panels.size()) / 2);
  const double legend_top = 78,
               top = legend_top + static_cast<double>(runs.size()) * kLegendRow + 16;
  const double height = top + rows * (kPanelHeight + kPanelGap) - kPanelGap + 22;
  return draw_page({.title = title_of(runs), .width = kWidth, .height = height, .margin = kMargin},
                   legend(runs, legend_top) + grid(panels, top));
}

}  // namespace

std::string report_svg(Runs runs) { return page({runs}); }

std::string report_svg(RunGroups groups) {
  const auto several = [](const RunGroup& group) { return group.seeds() > 1; };
  const std::vector<RunResult> shown = medians(groups);
  return std::ranges::any_of(groups, several) ? page({shown, groups}) : report_svg(Runs(shown));
}

}  // namespace fprnn
